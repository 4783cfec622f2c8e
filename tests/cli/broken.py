"""Model folders that cannot be loaded, one for each kind of fault, made on the fly from a tiny model that can."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from tempfile import mkdtemp

import torch
from safetensors.torch import load_file, save_file

from ..conftest import make_model, make_tokenizer

Make = Callable[[Path], Path | None]


@dataclass(frozen=True)
class Broken:
    """A fault, and patterns of what the sentence on it has to name as its cause and to advise as its remedy.

    `make` spoils a good folder, and may return what the user names instead of it; `words` are further ones of the
    command line; `dry` faults can be seen without reading the weights.
    """

    name: str
    group: str
    make: Make
    cause: str
    remedy: str
    words: tuple[str, ...] = ()
    dry: bool = True


@cache
def good(family: str = "llama") -> Path:
    """Return the folder of a tiny model that can be loaded."""
    folder = Path(mkdtemp(prefix="good-"))
    make_model(family).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def spoilt(broken: Broken, folder: Path) -> str:
    """Make the folder of a fault and return what a user names."""
    shutil.copytree(good(), folder)
    return str(broken.make(folder) or folder)


def written(file: str, content: str | bytes) -> Make:
    def make(folder: Path) -> None:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def cut(file: str, share: float = 0.5) -> Make:
    def make(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: int(len(content) * share)])

    return make


def without(*files: str) -> Make:
    def make(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return make


def keys(file: str = "config.json", drop: tuple[str, ...] = (), **changed: object) -> Make:
    """Change keys of a JSON file."""

    def make(folder: Path) -> None:
        found = json.loads((folder / file).read_text())
        found = {key: value for key, value in found.items() if key not in drop} | changed
        (folder / file).write_text(json.dumps(found))

    return make


def also(*makes: Make) -> Make:
    def make(folder: Path) -> Path | None:
        found = [one(folder) for one in makes]
        return found[-1]

    return make


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Make:
    def make(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors", metadata={"format": "pt"})

    return make


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def named(name: str) -> Make:
    return lambda folder: folder / name


def sharded(folder: Path) -> None:
    """Lay the weights out in two files with an index."""
    found = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(sorted(found))}
    for file in set(places.values()):
        own = {name: found[name] for name in found if places[name] == file}
        save_file(own, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def pickled(file: str) -> Make:
    def make(folder: Path) -> None:
        torch.save(load_file(folder / "model.safetensors"), folder / file)
        (folder / "model.safetensors").unlink()

    return make


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "org/base", "peft_type": "LORA"})
    )
    save_file({"base_model.model.lora_A.weight": torch.zeros(2, 2)}, folder / "adapter_model.safetensors")


def larger_tokenizer(folder: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"<more{number}>" for number in range(9)])
    tokenizer.save_pretrained(folder)


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
{imports}
class OwnConfig(LlamaConfig):
    model_type = "own_llama"
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
{rest}
"""


def own_code(imports: str = "", rest: str = "") -> Make:
    """Let the folder need code of its own, as Baichuan 2, InternLM 2 and ChatGLM do."""

    def make(folder: Path) -> None:
        own = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
        keys(model_type="own_llama", auto_map=own, architectures=["OwnForCausalLM"])(folder)
        (folder / "modeling_own.py").write_text(CODE.format(imports=imports, rest=rest))

    return make


def quantised(**options: object) -> Make:
    return keys(quantization_config=options)


def one_weight(value: float) -> Make:
    return weights(lambda found: found["model.layers.1.mlp.down_proj.weight"][0, 0].fill_(value))


SPM = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
TRUST = ("--trust-remote-code",)
CONFIG, TOKENIZER, WEIGHTS, INDEX = "config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"
AGAIN = "download|copy it|expected"


def _kinds() -> list[Broken]:
    def of(group: str, remedy: str, *rows: tuple[str, Make, str], **more: object) -> list[Broken]:
        return [Broken(name, group, make, cause, remedy, **more) for name, make, cause in rows]

    numbers = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"),
        *("vocab_size", "max_position_embeddings", "rms_norm_eps"),
    )
    odd: tuple[object, ...] = (-1, "many", None, ["a"], 0, {})  # of every number: test_loading.py
    return [
        *of(
            "folder",
            "expected|name ",
            ("absent", named("absent"), "no such folder"),
            ("a file", named(WEIGHTS), "is a file"),
            ("empty", emptied, "empty"),
            (
                "folders of models",
                also(emptied, lambda folder: shutil.copytree(good(), folder / "inner") and None),
                "inner",
            ),
            ("no configuration", without(CONFIG), "no config.json"),
        ),
        *of(
            "configuration",
            AGAIN + "|newer|name |decoder-only",
            ("empty file", written(CONFIG, ""), "config.json.*JSON"),
            ("cut off", cut(CONFIG), "config.json.*JSON"),
            ("a list", written(CONFIG, "[1]"), "config.json.*list"),
            ("null", written(CONFIG, "null"), "config.json.*None"),
            ("no text", written(CONFIG, b"\xff\xfe\x00"), "config.json"),
            ("no model_type", keys(drop=("model_type", "architectures")), "model_type"),
            ("model_type a number", keys(model_type=3), "model_type.*3"),
            ("unknown model_type", keys(model_type="lama9"), "lama9"),
            ("encoder-decoder", keys(model_type="t5", is_encoder_decoder=True), "encoder-decoder"),
            ("no language model", keys(model_type="vit"), "(?i)vit"),
            ("unknown activation", keys(hidden_act="swash"), "swash"),
            ("unknown dtype", keys(dtype="float99"), "float99"),
            ("odd rope", keys(rope_parameters={"rope_type": "curly", "rope_theta": 1.0}), "curly"),
            ("rope a number", keys(rope_parameters=7), "rope"),
            ("generation file cut off", cut("generation_config.json"), "generation_config.json"),
            ("end token a text", keys(eos_token_id="end"), "eos_token_id.*end"),
        ),
        *of(
            "odd numbers",
            "expected|check",
            *((f"{key} {value!r}", keys(**{key: value}), key) for key, value in zip(numbers, cycle(odd), strict=False)),
            ("heads do not divide", keys(num_attention_heads=5, head_dim=None), "head"),
        ),
        *of(
            "quantised",
            "plain weights",
            ("bitsandbytes 4", quantised(quant_method="bitsandbytes", load_in_4bit=True), "bitsandbytes"),
            ("bitsandbytes 8", quantised(load_in_8bit=True), "bitsandbytes"),
            ("gptq", quantised(quant_method="gptq", bits=4, group_size=16), "gptq.*pip install optimum gptqmodel"),
            ("awq", quantised(quant_method="awq", bits=4, group_size=16), "awq.*pip install gptqmodel"),
            ("compressed-tensors", quantised(quant_method="compressed-tensors"), "pip install compressed-tensors"),
            ("torchao", quantised(quant_method="torchao", quant_type="int8_weight_only"), "pip install torchao"),
            ("hqq", quantised(quant_method="hqq"), "hqq"),
            ("fp8", quantised(quant_method="fp8"), "fp8"),
            ("unknown method", quantised(quant_method="zip"), "zip"),
            ("no method", quantised(bits=4), "quantization_config"),
            (
                "packed weights",
                weights(lambda w: w.update({"lm_head.weight": w["lm_head.weight"].to(torch.uint8)})),
                "U8",
            ),
        ),
        *of(
            "adapter",
            "merge",
            ("alone", also(emptied, adapter), "PEFT adapter.*org/base"),
            ("beside a model", adapter, "PEFT adapter"),
        ),
        *of(
            "pickle",
            "python -c .*save_(pretrained|file)",
            ("bin", pickled("pytorch_model.bin"), "pytorch_model.bin"),
            ("pt", pickled("model.pt"), "model.pt"),
            ("pth", pickled("consolidated.00.pth"), "consolidated"),
        ),
        *of(
            "weights",
            AGAIN + "|rename|git lfs",
            ("none", without(WEIGHTS), "no weights"),
            ("cut off", cut(WEIGHTS, 0.9), r"model.safetensors.*bytes"),
            ("cut off in the header", cut(WEIGHTS, 0.01), "model.safetensors"),
            ("empty", written(WEIGHTS, b""), "model.safetensors"),
            ("garbage", written(WEIGHTS, b"x" * 999), "model.safetensors"),
            ("an HTML page", written(WEIGHTS, "<html>Not found</html>"), "model.safetensors"),
            ("git-lfs pointer", written(WEIGHTS, POINTER), "git-lfs"),
            ("longer than its header", also(lambda f: (f / WEIGHTS).open("ab").write(b"more") and None), "bytes"),
            ("one is missing", weights(lambda w: w.pop("model.layers.1.mlp.down_proj.weight")), "down_proj"),
            ("other names", weights(lambda w: [w.update({"x." + k: w.pop(k)}) for k in list(w)]), "lacks"),
            ("another shape", keys(intermediate_size=40), r"shape|size|mismatch"),
            ("another vocabulary", keys(vocab_size=500), "size|shape|mismatch"),
            (
                "misnamed",
                lambda folder: (folder / WEIGHTS).rename(folder / "weights.safetensors") and None,
                "weights.safetensors",
            ),
            ("a shard is missing", also(sharded, without("model-00002-of-00002.safetensors")), "model-00002-of-00002"),
            ("a shard is cut off", also(sharded, cut("model-00002-of-00002.safetensors")), "model-00002-of-00002"),
            ("index no JSON", also(sharded, cut(INDEX)), "index.json"),
            ("index without a map", also(sharded, written(INDEX, "{}")), "weight_map"),
            ("index a list", also(sharded, written(INDEX, "[]")), "index.json"),
            (
                "index names too much",
                also(sharded, lambda f: keys(INDEX, weight_map=_more(f))(f)),
                "model.layers.9",
            ),
        ),
        *of(
            "weights' numbers",
            "not a number|NaN|finite|nan|inf",
            ("NaN", one_weight(float("nan")), "down_proj|weights|logits"),
            ("infinite", one_weight(float("inf")), "down_proj|weights|logits"),
            dry=False,
        ),
        *of(
            "tokenizer",
            "tokenizer",
            ("none", without(TOKENIZER, "tokenizer_config.json"), "no tokenizer"),
            ("file is gone", without(TOKENIZER), "tokenizer"),
            ("empty object", written(TOKENIZER, "{}"), "tokenizer|added_tokens"),
            ("empty file", written(TOKENIZER, ""), "tokenizer.json.*JSON"),
            ("cut off", cut(TOKENIZER), "tokenizer.json.*JSON"),
            ("a list", written(TOKENIZER, "[]"), "tokenizer.json.*list"),
            ("null", written(TOKENIZER, "null"), "tokenizer.json.*None"),
            ("an unknown kind", keys(TOKENIZER, model={"type": "Foo"}), "tokenizer|ModelWrapper|variant"),
            ("no vocabulary", keys(TOKENIZER, model={"type": "BPE", "vocab": {}, "merges": []}), "tokens"),
            ("settings cut off", cut("tokenizer_config.json"), "JSON|tokenizer_config"),
            ("settings a list", written("tokenizer_config.json", "[]"), "tokenizer"),
            ("larger than the embedding", larger_tokenizer, "40[0-9].*400 rows|embedding"),
            ("vocab.json alone", also(without(TOKENIZER), written("vocab.json", '{"a": 0}')), "tokenizer|vocab"),
        ),
        *of(
            "package",
            "pip install",
            ("sentencepiece", also(without(TOKENIZER), written("tokenizer.model", SPM)), "sentencepiece"),
            ("tiktoken", also(without(TOKENIZER), written("tokenizer.model", b"IQ== 0\nIg== 1\n")), "tiktoken"),
            ("qwen.tiktoken", also(without(TOKENIZER), written("qwen.tiktoken", b"IQ== 0\nIg== 1\n")), "tiktoken"),
        ),
        *of("package", "pip install", ("own code", own_code("import not_there_x"), "not_there_x"), words=TRUST),
        *of(
            "own code",
            "--trust-remote-code",
            ("not allowed", own_code(), "modeling_own.py"),
            ("a known model_type", also(own_code(), keys(model_type="vit")), "code|vit"),
        ),
        *of(
            "own code",
            "config.json|weights|model",
            ("raises", own_code("raise RuntimeError('no such card')"), "no such card"),
            ("no Python", own_code("def ("), "SyntaxError|invalid syntax|own"),
            ("class is gone", also(own_code(), keys(auto_map={"AutoConfig": "modeling_own.Gone"})), "Gone"),
            ("file is gone", also(own_code(), without("modeling_own.py")), "modeling_own"),
            words=TRUST,
        ),
        *of(
            "gguf",
            "download|name|join|gguf",
            ("garbage", also(emptied, written("m.gguf", b"x" * 99), named("m.gguf")), "m.gguf"),
            ("cut off", also(emptied, written("m.gguf", b"GGUF\x03\x00\x00\x00\x01"), named("m.gguf")), "m.gguf"),
            ("pointer", also(emptied, written("m.gguf", POINTER)), "git-lfs"),
            ("two", also(emptied, written("a.gguf", b"GGUF"), written("b.gguf", b"GGUF")), "a.gguf, b.gguf"),
            ("in pieces", also(emptied, written("m-00001-of-00002.gguf", b"GGUF")), "00001-of-00002"),
            ("absent", named("absent.gguf"), "absent.gguf"),
        ),
        *of(
            "name",
            "expected|name a folder",
            ("hub id", lambda _: Path("no-one/no-such-model"), "no-one/no-such-model"),
            ("with spaces", lambda _: Path("a b c"), "a b c"),
        ),
        *of("device", "should be", ("dtype", named("."), "int4"), words=("--dtype", "int4")),
        *(
            Broken(f"{option} {value}", "device", named("."), re.escape(value), "expected|give one", (option, value))
            for option in ("--device", "--device-map")
            for value in ("cuda", "cuda:7", "mps", "nonsense", "meta", "cpu:5")
        ),
        Broken("both", "device", named("."), "device_map", "one", ("--device", "cpu", "--device-map", "auto")),
    ]


def _more(folder: Path) -> dict[str, str]:
    found = json.loads((folder / INDEX).read_text())["weight_map"]
    return found | {"model.layers.9.weight": next(iter(found.values()))}


KINDS = _kinds()


def judged(broken: Broken, code: int, said: str, crashed: bool) -> str:
    """Return `clear`, `vague`, `traceback` or `silent`."""
    if crashed or "Traceback" in said:
        return "traceback"
    if code == 0:
        return "silent"
    line = said.strip().splitlines()[-1] if said.strip() else ""
    clear = code == 2 and re.search(broken.cause, line) and re.search(broken.remedy, line)
    return "clear" if clear else "vague"


def call(place: str, out: Path, *words: str) -> tuple[int, str, bool]:
    """Run one case of the embedded data on a model; return exit code, standard error, and whether it crashed."""
    from typer.testing import CliRunner

    from instructedit.cli.main import app

    fixed = ["run", "quickstart", "--setting", "direct", "--editor", "none", "--limit", "1", "--task", "recent"]
    found = CliRunner().invoke(app, [*fixed, "--model", place, "--out", str(out), *words])
    crashed = found.exception is not None and not isinstance(found.exception, SystemExit)
    return found.exit_code, f"{found.stderr}\n{found.exception!r}" if crashed else found.stderr, crashed
