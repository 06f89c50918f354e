"""What a tensor is for, told by its name as the usual model families call them."""

import re

KINDS = ("attention", "mlp", "embedding", "norm", "other")

# The first that is found decides: "embeddings.LayerNorm" is a norm, "attention.output.dense" is attention.
_PATTERNS = (
    ("norm", r"norm|(^|[._])(ln|bn|rms)(_?\w?\d*|_[a-z]+)([._]|$)"),
    ("embedding", r"embed|embd|(^|[._])(wte|wpe|lm_head|shared)([._]|$)|^output\.weight$|^head\.weight$"),
    (
        "attention",
        r"attn|attention|(^|[._])(qkv|wqkv|[qkvo]|[qkvo]_proj|w[qkvo]|query|key|value|to_[qkv]|to_out|in_proj"
        r"|[qkv]_[ab]_proj)"
        r"([._]|$)",
    ),
    (
        "mlp",
        r"mlp|ffn|feed_forward|expert|intermediate|(^|[._])(fc_?\d|[cw][123]|wi|wo|wi_\d|ff|dense_\w*4h\w*"
        r"|(up|down|gate|gate_up)_proj|linear[12])([._]|$)|layers?\.\d+\.output\.",
    ),
)
_COMPILED = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _PATTERNS)


def kind_of(name: str) -> str:
    """One of KINDS. An output head counts as an embedding, with which it is often tied."""
    return next((kind for kind, pattern in _COMPILED if pattern.search(name)), "other")
