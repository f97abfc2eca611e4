"""llama.cpp's server with a tiny model that is made here: random weights, one layer, text only.

Usage: llama_server.py FOLDER

It writes the model into the folder, says where it listens, and ends when its standard input does.
"""

import sys
from pathlib import Path

import gguf
import numpy
import xllamacpp

CONTEXT = 2048
WIDTH, HEADS, FEED = 64, 2, 128
# A template of the documented form; without images.
TEMPLATE = (
    "{% for message in messages %}<s>{{ message.role }}: {{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)


def vocabulary():
    """Marks, one token for each byte, and some words: names, scores and kinds."""
    words = [a + b for a in ["tide", "gate", "river", "moon", "salt", "wind"] for b in ["", "s", "ing", "ed"]]
    kind = gguf.TokenType
    tokens = [("<unk>", 0.0, kind.UNKNOWN), ("<s>", 0.0, kind.CONTROL), ("</s>", 0.0, kind.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", 0.0, kind.BYTE) for byte in range(256)]
    tokens += [("▁", -1.0, kind.NORMAL)]
    tokens += [("▁" + word, -2.0 - n, kind.NORMAL) for n, word in enumerate(words)]
    return tokens


def write_model(path):
    tokens = vocabulary()
    random = numpy.random.default_rng(7)

    def weights(*shape):
        return random.normal(0, 0.5, shape).astype(numpy.float32)

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    # Only words are ever said: what else has no weight is less likely than the likeliest word.
    output = weights(len(tokens), WIDTH)
    output[:260] = 0
    for name, tensor in {
        "token_embd.weight": weights(len(tokens), WIDTH),
        "output.weight": output,
        "output_norm.weight": numpy.ones(WIDTH, numpy.float32),
        "blk.0.attn_norm.weight": numpy.ones(WIDTH, numpy.float32),
        "blk.0.ffn_norm.weight": numpy.ones(WIDTH, numpy.float32),
        "blk.0.attn_q.weight": weights(WIDTH, WIDTH),
        "blk.0.attn_k.weight": weights(WIDTH, WIDTH),
        "blk.0.attn_v.weight": weights(WIDTH, WIDTH),
        "blk.0.attn_output.weight": weights(WIDTH, WIDTH),
        "blk.0.ffn_gate.weight": weights(FEED, WIDTH),
        "blk.0.ffn_up.weight": weights(FEED, WIDTH),
        "blk.0.ffn_down.weight": weights(WIDTH, FEED),
    }.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


path = Path(sys.argv[1]) / "tiny.gguf"
write_model(path)
settings = xllamacpp.CommonParams()
settings.model.path = str(path)
settings.hostnames = ["127.0.0.1"]
settings.port = 0
settings.n_ctx = CONTEXT
settings.n_parallel = 1
settings.n_gpu_layers = 0
settings.cpuparams.n_threads = 1
settings.cpuparams_batch.n_threads = 1
settings.ctx_shift = False
settings.warmup = False
settings.offline = True
server = xllamacpp.Server(settings)
print("listening on", server.listening_address, flush=True)
sys.stdin.read()
