"""Small vocabularies of the kinds that the paper's models have, each trained on a few sentences.

A kind is what a tokenizer.json of the published models describes: how text is split before it is
merged, how digits are cut, how a space is written, and what is put before a text.
"""

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SENTENCES = [
    "Which of the two answers is the better one, and why? The first, because it is shorter.",
    "12345 of 67 + 890 make 13302; 3.14 and 2024-07-26 are numbers too.\n\n- one\n- two\n",
    "def double(x):\n    return 2 * x  # a line of code\n",
    "Überall ist es größer: 東京, Ελλάδα, नमस्ते, مرحبا, 🙂.",
]
SIZE = 600  # before the special tokens; 256 of them are bytes
# Words, numbers of at most so many digits, punctuation, white space: Llama 3's and Qwen2's rule.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def llama3(specials: list[str], bos: str | None = None) -> Tokenizer:
    """Byte-level BPE with up to three digits a token, as Llama 3 and OLMo 2 have it."""
    rule = Regex(WORDS.replace("DIGITS", "{1,3}"))
    split = [pre_tokenizers.Split(rule, "isolated"), _bytes(use_regex=False)]
    return _byte_level(pre_tokenizers.Sequence(split), specials, bos)


def qwen2(specials: list[str]) -> Tokenizer:
    """Byte-level BPE with a digit a token, over text in Unicode's composed form."""
    rule = Regex(WORDS.replace("DIGITS", ""))
    split = [pre_tokenizers.Split(rule, "isolated"), _bytes(use_regex=False)]
    tokenizer = _byte_level(pre_tokenizers.Sequence(split), specials)
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def smollm2(specials: list[str]) -> Tokenizer:
    """Byte-level BPE with GPT-2's rule, after each digit was cut off by itself."""
    split = [pre_tokenizers.Digits(individual_digits=True), _bytes(use_regex=True)]
    return _byte_level(pre_tokenizers.Sequence(split), specials)


def sentencepiece(specials: list[str], bos: str, prefix: bool) -> Tokenizer:
    """BPE over characters with bytes to fall back on, a space written as ▁ (Gemma, Mistral).

    `prefix`: a text begins with a ▁ of its own (Mistral).
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    spaces = [normalizers.Prepend("▁")] * prefix + [normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(spaces)
    decoding = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(decoding + [decoders.Strip(" ", 1, 0)] * prefix)
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=[*specials, *every_byte], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    _add_specials(tokenizer, specials)
    return _with_bos(tokenizer, bos)


def _bytes(use_regex: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _byte_level(
    split: pre_tokenizers.PreTokenizer, specials: list[str], bos: str | None = None
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=[], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    _add_specials(tokenizer, specials)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return _with_bos(tokenizer, bos) if bos else tokenizer


def _add_specials(tokenizer: Tokenizer, specials: list[str]) -> None:
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in specials]
    )


def _with_bos(tokenizer: Tokenizer, bos: str) -> Tokenizer:
    """Put `bos` before a text that is tokenised with special tokens, as no chat template asks."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, tokenizer.token_to_id(bos))],
    )
    return tokenizer
