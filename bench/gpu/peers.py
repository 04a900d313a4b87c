"""What PyTorch reaches on this GPU, for bench/cuda.mjs: medians of CUDA-event timings, data on the device, random weights.

Usage: python3 bench/gpu/peers.py matmul | attention | MODEL...   (bert, gpt2, t5, bart, or a classifier of torchvision)
Prints one JSON object per line: {"name", "ms"}.
"""
import json
import sys

import torch
import torch.nn.functional as F

torch.manual_seed(0)
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
BATCHES = (1, 8, 32, 128)


def median_ms(run, iterations=30, warm=8):
    with torch.inference_mode():
        for _ in range(warm):
            run()
        torch.cuda.synchronize()
        times = []
        for _ in range(iterations):
            start, end = torch.cuda.Event(True), torch.cuda.Event(True)
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def note(name, ms):
    print(json.dumps({"name": name, "ms": round(ms, 4)}), flush=True)


def matmul():
    for m, n, k in ((8192, 8192, 8192), (4096, 4096, 4096), (4096, 3072, 768)):
        a, b = (torch.randn(*dims, device="cuda", dtype=torch.bfloat16) for dims in ((m, k), (k, n)))
        note(f"{m}x{n}x{k}", median_ms(lambda: a @ b))


def attention():
    for size in (64, 128):
        for causal in (False, True):
            q, k, v = (torch.randn(8, 16, 2048, size, device="cuda", dtype=torch.bfloat16) for _ in range(3))
            for backend in ("FLASH_ATTENTION", "CUDNN_ATTENTION"):
                with torch.nn.attention.sdpa_kernel(getattr(torch.nn.attention.SDPBackend, backend)):
                    note(f"head {size}{' causal' if causal else ''} {backend}", median_ms(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal)))


def tokens(batch, _):
    ids = torch.randint(0, 30000, (batch, 128), device="cuda")
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def pictures(batch, dtype):
    x = torch.randn(batch, 3, 224, 224, device="cuda", dtype=dtype)
    return {"x": x.to(memory_format=torch.channels_last) if dtype == torch.float16 else x}


def model_named(name):
    if name == "bert":
        from transformers import BertConfig, BertModel
        return BertModel(BertConfig()), tokens
    if name == "gpt2":
        from transformers import GPT2Config, GPT2LMHeadModel
        return GPT2LMHeadModel(GPT2Config(use_cache=False)), tokens
    if name == "t5":
        from transformers import T5Config, T5EncoderModel
        return T5EncoderModel(T5Config()), tokens
    if name == "bart":
        from transformers import BartConfig, BartModel
        return BartModel(BartConfig()).encoder, tokens
    import torchvision
    return getattr(torchvision.models, name)(), pictures


def measure(name):
    model, make = model_named(name)
    model = model.cuda().eval()
    for batch in BATCHES:
        x = make(batch, torch.float32)
        note(f"{name} eager fp32 batch {batch}", median_ms(lambda: model(**x), 10, 3))
    model = model.half()
    if make is pictures:
        model = model.to(memory_format=torch.channels_last)
    compiled = torch.compile(model, mode="reduce-overhead", dynamic=False)
    for form, run in (("eager", model), ("compile", compiled)):
        for batch in BATCHES:
            x = make(batch, torch.float16)
            note(f"{name} {form} fp16 batch {batch}", median_ms(lambda: run(**x)))
    torch.cuda.empty_cache()
    torch._dynamo.reset()


for word in sys.argv[1:]:
    {"matmul": matmul, "attention": attention}.get(word, lambda: measure(word))()
