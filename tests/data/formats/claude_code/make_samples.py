"""Real sessions: Claude Code against a scripted Messages server, in a folder and with a home of its own.

    python make_samples.py CLI_JS CLAUDE   # cli.js of @anthropic-ai/claude-code 2.0.14 (run by node), and 2.1.330

The newer version logs its requests, so there the system message and the tools are this script's own. Run as an MCP
server, the script is those tools.
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
FOLDER, HOME, PORT = Path("/srv/demo"), Path("/srv/home"), 8914
FILE = str(FOLDER / "hello.py")


def text(words):
    return {"type": "text", "text": words}


def call(number, name, **arguments):
    return {"type": "tool_use", "id": f"toolu_{number:02d}", "name": name, "input": arguments}


def thought(words):
    return {"type": "thinking", "thinking": words, "signature": "c2lnbmF0dXJl"}


HIDDEN = {"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"}
READS = thought("The task names one file. I read it before I change it."), text("I look at the file and at the folder.")
CORRECT = [
    [*READS, call(0, "Read", file_path=FILE), call(1, "Bash", command=f"ls {FOLDER}", description="List the folder")],
    [HIDDEN, call(2, "Edit", file_path=FILE, old_string="Helo", new_string="Hello")],
    [call(3, "RunTests")],
    [call(4, "Read", path=FILE)],
    [text("hello.py says Hello now.")],
]
DELEGATE = [
    [call(20, "Task", description="Count", prompt=f"Count the lines of {FILE}", subagent_type="general-purpose")],
    [call(21, "Bash", command=f"wc -l {FILE}", description="Count lines")],
    [text("There are 2 lines.")],
    [text("hello.py has 2 lines.")],
]
REWIND = [[text("It greets by name.")]]
SHOWS = [[call(25, "Read", file_path=str(FOLDER / "dot.png"))], [text("The picture is a red square.")]]
FAULT = [{"type": "error", "error": {"type": "invalid_request_error", "message": "scripted fault"}}]
SUMMARY = [[text("<analysis>short</analysis>\n<summary>\nhello.py was corrected.\n</summary>")]]
LAST = [[call(30, "Bash", command=f"head -1 {FILE}", description="Show the first line")], [text("It defines greet.")]]
OWN = [
    [*READS, call(0, "mcp__demo__read_file", path=FILE), call(1, "mcp__demo__list_folder", path=str(FOLDER))],
    [HIDDEN, call(2, "mcp__demo__replace", path=FILE, old="Helo", new="Hello")],
    [call(3, "RunTests")],
    [text("hello.py says Hello now.")],
]
OWN_LAST = [[call(10, "mcp__demo__read_file", path=FILE)], [text("It has two lines.")]]


def serve(script, name):
    """A server that answers requests with tools by the script, and others (titles, checks) with ``ok``."""
    steps = enumerate(script)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_error(404)

        def send(self, value, status=200):
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if "count_tokens" in self.path:
                return self.send({"input_tokens": 100})
            number, blocks = next(steps) if body.get("tools") else (0, [text("ok")])
            if isinstance(blocks, dict):
                return self.send(blocks, 400)
            stop = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
            message = {"id": f"msg_{name}_{number}", "type": "message", "role": "assistant", "model": body["model"]}
            message |= {"content": blocks, "stop_reason": stop, "stop_sequence": None}
            message |= {"usage": {"input_tokens": 1000, "output_tokens": 30}}
            if not body.get("stream"):
                return self.send(message)
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for event in stream(message):
                self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def stream(message):
    yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    for index, block in enumerate(message["content"]):
        begin = {key: "" if key in ("text", "thinking", "signature") else value for key, value in block.items()}
        deltas = [
            {"type": f"{key}_delta", key: block[key]} for key in ("text", "thinking", "signature") if key in block
        ]
        if block["type"] == "tool_use":
            begin["input"] = {}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        yield {"type": "content_block_start", "index": index, "content_block": begin}
        yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": message["stop_reason"]}, "usage": {"output_tokens": 30}}
    yield {"type": "message_stop"}


def run(claude, script, name, prompt, *options):
    server = serve(script, name)
    environment = {"HOME": str(HOME), "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    environment |= {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{PORT}", "ANTHROPIC_API_KEY": "none"}
    environment |= {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
    command = [*claude, "-p", prompt, "--model", "claude-sonnet-4-5", *options]
    subprocess.run(command, cwd=FOLDER, env=environment, stdin=subprocess.DEVNULL, check=False)
    server.shutdown()
    server.server_close()


def fresh():
    shutil.rmtree(HOME, ignore_errors=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    HOME.mkdir(parents=True)
    Path(FILE).write_text('def greet(name):\n    return "Helo " + name\n')
    (FOLDER / "dot.png").write_bytes(picture())


def picture():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([200, 30, 30] * 4) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def session():
    return max((HOME / ".claude" / "projects").rglob("*.jsonl"), key=lambda path: path.stat().st_size)


def old(cli):
    claude, tools = ["node", cli], ["--allowedTools", "Bash,Read,Edit,Task"]
    fresh()
    run(claude, CORRECT, "correct", "Correct the spelling in hello.py", *tools)
    resume = ["--resume", session().stem, *tools]
    run(claude, DELEGATE, "delegate", "Let a helper count the lines of hello.py", *resume)
    run(claude, REWIND, "rewind", "What does it do?", *resume, "--resume-session-at", "msg_correct_4")
    shutil.copy(session(), HERE / "branch.jsonl")
    run(claude, FAULT * 9, "fault", "Say something", *resume)
    run(claude, SUMMARY, "summary", "/compact", *resume)
    run(claude, LAST, "last", "Show the first line of hello.py", *resume)
    run(claude, SHOWS, "shows", "What does dot.png show?", *resume)
    shutil.copy(session(), HERE / "compacted.jsonl")


def new(claude):
    fresh()
    servers = {"demo": {"command": sys.executable, "args": [str(Path(__file__).resolve()), "serve"]}}
    (HOME / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    names = ",".join(f"mcp__demo__{tool['name']}" for tool in TOOLS)
    options = ["--system-prompt", "You are a coding agent.", "--tools", "", "--disable-slash-commands"]
    options += ["--strict-mcp-config", "--mcp-config", str(HOME / "mcp.json"), "--allowedTools", names]
    run([claude], OWN, "own", "Correct the spelling in hello.py", *options)
    run([claude], OWN_LAST, "last", "How many lines has hello.py?", "--resume", session().stem, *options)
    shutil.copy(session(), HERE / "requests.jsonl")


# --- the tools ----------------------------------------------------------------------------------------------------


def tool(name, description, *arguments):
    schema = {"type": "object", "properties": {a: {"type": "string"} for a in arguments}, "required": list(arguments)}
    return {"name": name, "description": description, "inputSchema": schema}


TOOLS = [
    tool("read_file", "The text of a file.", "path"),
    tool("replace", "Replace a text in a file.", "path", "old", "new"),
    tool("list_folder", "The names in a folder.", "path"),
]


def use(name, arguments):
    path = Path(arguments["path"])
    if name == "list_folder":
        return "\n".join(sorted(inner.name for inner in path.iterdir()))
    if name == "read_file":
        return path.read_text()
    path.write_text(path.read_text().replace(arguments["old"], arguments["new"]))
    return "replaced"


def serve_tools():
    for line in sys.stdin:
        query = json.loads(line)
        method, result = query.get("method"), {}
        if method == "initialize":
            version = query["params"]["protocolVersion"]
            result = {
                "protocolVersion": version,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "demo", "version": "1"},
            }
        elif method == "tools/list":
            result = {"tools": TOOLS}
        elif method == "tools/call":
            answer = use(query["params"]["name"], query["params"]["arguments"])
            result = {"content": [{"type": "text", "text": answer}]}
        if "id" in query:
            print(json.dumps({"jsonrpc": "2.0", "id": query["id"], "result": result}), flush=True)


if sys.argv[1] == "serve":
    serve_tools()
else:
    old(sys.argv[1])
    new(sys.argv[2])
