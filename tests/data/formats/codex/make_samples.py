"""Real rollout files: the Codex CLI against a scripted Responses server, in a folder and with a home of its own.

python make_samples.py NEW_CODEX OLD_CODEX   # the binaries of @openai/codex 0.169.0 and 0.55.0
"""

import http.server
import json
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

HERE = Path(__file__).parent
FOLDER, HOME, PORT = Path("/srv/demo"), Path("/srv/home"), 8911


def says(text):
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def thinks(number, *summary):
    parts = [{"type": "summary_text", "text": text} for text in summary]
    return {
        "type": "reasoning",
        "id": f"rs_{number}",
        "summary": parts,
        "encrypted_content": f"gAAAAABencrypted{number}",
    }


def calls(number, name, arguments):
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": name, "arguments": text}


def writes(number, name, text, **more):
    return {
        "type": "custom_tool_call",
        "id": f"ctc_{number}",
        "call_id": f"call_{number}",
        "name": name,
        "input": text,
        **more,
    }


LOOKS = "**Looking first**\n\nI read the file before I change it."
PATCH = """*** Begin Patch
*** Update File: hello.py
@@
 def greet(name):
-    return "Helo " + name
+    return "Hello " + name
*** End Patch
"""
SEARCH = {
    "type": "web_search_call",
    "id": "ws_0",
    "status": "completed",
    "action": {"type": "search", "query": "python greeting style"},
}
WC = {
    "type": "local_shell_call",
    "id": "lsh_0",
    "call_id": "call_2",
    "status": "completed",
    "action": {"type": "exec", "command": ["wc", "-l", "hello.py"], "timeout_ms": 1000},
}

CORRECT = [
    [
        thinks(0, LOOKS),
        says("I look at the file first."),
        calls(0, "exec_command", '{"cmd": "cat hello.py"}'),
        calls(1, "exec_command", '{"cmd":"ls"}'),
    ],
    [thinks(1), writes(2, "apply_patch", PATCH)],
    [calls(3, "run_tests", "{}")],
    [calls(4, "exec_command", '{"cmd": "python3 -c')],
    [says("hello.py says Hello now.")],
]
SEARCHES = [[SEARCH, says("A greeting needs no style guide.")]]
SHOWS = [[calls(10, "view_image", {"path": str(FOLDER / "dot.png")})], [says("The picture is a red square.")]]
COMPACTS = [
    [says("Summary: hello.py was corrected.")],
    [calls(20, "exec_command", {"cmd": "tail -1 hello.py"})],
    [says("It says Hello.")],
]
FORKS = [[says("It greets by name.")]]
CODES = [
    [
        thinks(0),
        writes(
            0,
            "exec",
            'const r = await tools.exec_command({cmd: "wc -l hello.py"}); text(r.output);',
            namespace="functions",
        ),
    ],
    [writes(1, "exec", 'text("no namespace");')],
    [says("hello.py has two lines.")],
]
OLD = [
    [
        thinks(0, LOOKS),
        says("I look at the file first."),
        calls(0, "shell", {"command": ["cat", "hello.py"]}),
        calls(1, "shell", {"command": ["ls"]}),
    ],
    [WC],
    [calls(3, "update_plan", {"plan": [{"step": "read", "status": "completed"}]})],
    [says("hello.py has two lines.")],
]
OLD_COMPACTS = [
    [calls(20, "shell", {"command": ["head", "-1", "hello.py"]})],
    [says("Summary: hello.py defines greet.")],
    [calls(21, "shell", {"command": ["tail", "-1", "hello.py"]})],
    [says("It defines greet.")],
]


def serve(script, tokens):
    """A server that answers with the next items; ``tokens`` is what each answer is said to have cost."""
    steps, costs = iter(script), iter(tokens)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_error(404)

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            items, cost = next(steps), next(costs)
            usage = {"input_tokens": cost, "output_tokens": 50, "total_tokens": cost + 50}
            events = [{"type": "response.created", "response": {"id": "resp"}}]
            events += [
                {"type": "response.output_item.done", "output_index": i, "item": item} for i, item in enumerate(items)
            ]
            events.append({"type": "response.completed", "response": {"id": "resp", "usage": usage}})
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for event in events:
                self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    server = http.server.HTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def run(codex, script, *arguments, tokens=(), options=()):
    server = serve(script, [*tokens, *[1000] * len(script)])
    options = ["-s", "danger-full-access", "--skip-git-repo-check", *options]
    environment = {"HOME": str(HOME), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    subprocess.run(
        [codex, "exec", *options, *arguments], cwd=FOLDER, env=environment, stdin=subprocess.DEVNULL, check=True
    )
    server.shutdown()
    server.server_close()


def fresh():
    shutil.rmtree(HOME, ignore_errors=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    (HOME / ".codex").mkdir(parents=True)
    provider = f"""name = "scripted"
base_url = "http://127.0.0.1:{PORT}/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
    (HOME / ".codex" / "config.toml").write_text(f'model_provider = "scripted"\n[model_providers.scripted]\n{provider}')
    (FOLDER / "hello.py").write_text('def greet(name):\n    return "Helo " + name\n')
    (FOLDER / "dot.png").write_bytes(picture())


def picture():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([200, 30, 30] * 4) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rollouts():
    return sorted((HOME / ".codex" / "sessions").rglob("rollout-*.jsonl"))


def main():
    new, old = sys.argv[1:3]
    limit = ["-c", "model_auto_compact_token_limit=5000"]
    fresh()
    run(new, CORRECT, "Correct the spelling in hello.py", options=["-m", "gpt-5.5"], tokens=[1000] * 4 + [9000])
    session = rollouts()[0].stem[-36:]
    run(new, COMPACTS, "resume", session, "What does it say?", options=["-m", "gpt-5.5", *limit])
    run(new, SHOWS, "resume", session, "What does dot.png show?", options=["-m", "gpt-5.5"])
    run(new, SEARCHES, "resume", session, "Is there a style guide?", options=["-m", "gpt-5.5"])
    shutil.copy(rollouts()[0], HERE / "compacted.jsonl")
    run(new, FORKS, "fork", session, "What does it do?", options=["-m", "gpt-5.5"])
    shutil.copy(rollouts()[1], HERE / "fork.jsonl")
    run(new, CODES, "How many lines has hello.py?", options=["-m", "gpt-5.6-sol"])
    shutil.copy(rollouts()[2], HERE / "code_mode.jsonl")
    fresh()
    run(old, OLD, "How many lines has hello.py?", options=["-m", "gpt-5-codex"])
    session = rollouts()[0].stem[-36:]
    options = ["-m", "gpt-5-codex", *limit]
    run(old, OLD_COMPACTS, "resume", session, "What does it define?", options=options, tokens=[9000])
    shutil.copy(rollouts()[0], HERE / "old.jsonl")


main()
