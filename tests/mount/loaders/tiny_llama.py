"""A llama of random weights as a GGUF file, small enough for tests, whole enough for llama.cpp."""

from pathlib import Path

import numpy as np

SEED = 17
WIDTH, HIDDEN, HEADS, LAYERS = 64, 128, 4, 2
SPECIAL = ["<unk>", "<s>", "</s>"]
TOKENS = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
UNKNOWN, CONTROL, BYTE = 2, 3, 6
"""Kinds of tokens."""


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "token_embd": (len(TOKENS), WIDTH),
        "output_norm": (WIDTH,),
        "output": (len(TOKENS), WIDTH),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        found |= {f"{block}.{name}": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
        found |= {f"{block}.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        found |= {f"{block}.ffn_{name}": (HIDDEN, WIDTH) for name in ("gate", "up")}
        found[f"{block}.ffn_down"] = (WIDTH, HIDDEN)
    return found


def write(path: Path, dtype: str) -> None:
    """dtype of the matrices: a name of gguf.GGMLQuantizationType. Vectors are F32, as llama.cpp wants them."""
    import gguf

    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0] * len(TOKENS))
    writer.add_token_types([UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256])
    kind = gguf.GGMLQuantizationType[dtype]
    for name, shape in shapes().items():
        values = rng.normal(1 if len(shape) == 1 else 0, 0.05, shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", values)
        else:
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
