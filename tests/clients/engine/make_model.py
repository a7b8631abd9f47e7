"""Writes a tiny Llama model with random weights, for llama.cpp to load: `make_model.py FILE`.

It speaks nonsense from a list of words, and does so reproducibly. Its purpose is to be a real engine's model that needs
no download: 2 layers, 32 dimensions, some 300 tokens, under a megabyte. Names of metadata and tensors are those of the
GGUF specification (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) for the architecture `llama`.
"""

import string
import sys

import gguf
import numpy as np

DIMENSIONS = 32
HEADS = 4
LAYERS = 2
FEED_FORWARD = 64
CONTEXT = 512
WORDS = (
    "the a one two red green blue cat dog bird tree river stone light night day slow quick warm cold and or but then "
    "runs sings sleeps turns falls opens under over near far café naïve"
).split()

# The roles of dialogue as plain text; llama.cpp needs a template to make a prompt of messages.
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def vocabulary():
    """Tokens with their types, in the order of their ids: control, bytes (for any text to be readable), pieces."""
    kinds = gguf.TokenType
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    tokens += [(letter, kinds.NORMAL) for letter in "▁" + string.ascii_letters + string.digits + string.punctuation]
    first_word = len(tokens)
    # SentencePiece writes a space as U+2581.
    tokens += [("▁" + word, kinds.NORMAL) for word in WORDS]
    return tokens, first_word


def write(path):
    tokens, first_word = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("switchboard-test")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(DIMENSIONS)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(DIMENSIONS // HEADS)
    writer.add_vocab_size(len(tokens))
    # Embeddings are of the whole text, not of each token.
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _ in tokens])
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in tensors(len(tokens), first_word):
        writer.add_tensor(name, tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(vocabulary_size, first_word):
    """Random weights, but for one dimension: it holds 1 from the first layer to the last, and so can make the model say
    words alone, never a control token or half a character."""
    random = np.random.default_rng(7)

    def weights(*shape):
        return random.normal(0, 0.5, shape)

    embedding = weights(vocabulary_size, DIMENSIONS)
    embedding[:, 0] = 1.0
    output = weights(vocabulary_size, DIMENSIONS)
    output[:first_word, 0] = -1000.0
    output[first_word:, 0] = 0.0
    yield "token_embd.weight", embedding
    yield "output_norm.weight", np.ones(DIMENSIONS)
    yield "output.weight", output
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", np.ones(DIMENSIONS)
        yield f"{block}.ffn_norm.weight", np.ones(DIMENSIONS)
        for name in ("attn_q", "attn_k", "attn_v"):
            yield f"{block}.{name}.weight", weights(DIMENSIONS, DIMENSIONS)
        yield f"{block}.ffn_gate.weight", weights(FEED_FORWARD, DIMENSIONS)
        yield f"{block}.ffn_up.weight", weights(FEED_FORWARD, DIMENSIONS)
        for name, width in (("attn_output", DIMENSIONS), ("ffn_down", FEED_FORWARD)):
            into_stream = weights(DIMENSIONS, width)
            into_stream[0] = 0.0
            yield f"{block}.{name}.weight", into_stream


if __name__ == "__main__":
    write(sys.argv[1])
