"""Deployments as vLLM, SGLang and TensorRT-LLM spell them: flags in, flags out (of the first two).

The engines and this package divide GPUs differently; `read` and `write` translate, and say in
notes what does not carry over. Sources: the engines' documentation of their arguments,
https://docs.vllm.ai/en/latest/configuration/engine_args.html and
https://docs.sglang.io/advanced_features/server_arguments.html.
"""

from qsjax.engines.deployment import Deployment as Deployment
from qsjax.engines.flags import engine_of as engine_of
from qsjax.engines.reading import read as read
from qsjax.engines.writing import WrittenEngine as WrittenEngine
from qsjax.engines.writing import write as write
