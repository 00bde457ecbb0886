"""Real logs of OpenHands V0: openhands-ai 0.62.0, its CodeActAgent and CLI runtime, a scripted chat server.

    python make_samples.py   # Python >= 3.12; works in /srv/demo

Makes ``native`` (tool calls), ``text`` (calls as text, with a condenser) and the event logs of the same runs in
``../openhands_events``.
"""

import asyncio
import http.server
import json
import shutil
import sys
import threading
from pathlib import Path

from openhands.core.config import AgentConfig, LLMConfig, OpenHandsConfig
from openhands.core.config.condenser_config import LLMSummarizingCondenserConfig, NoOpCondenserConfig
from openhands.core.main import run_controller
from openhands.events.action import MessageAction
from pydantic import SecretStr

HERE = Path(__file__).parent
EVENTS = HERE.parent / "openhands_events"
FOLDER, PORT = Path("/srv/demo"), 8913
FILE = str(FOLDER / "hello.py")
SUMMARY = "SUMMARY: hello.py was corrected."


def call(number, name, arguments):
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": text}}


def written(name, **arguments):
    lines = [f"<parameter={key}>{value}</parameter>" for key, value in arguments.items()]
    return "\n".join([f"<function={name}>", *lines, "</function>"])


LOW = {"security_risk": "LOW"}
REPLACE = {"command": "str_replace", "path": FILE, "old_str": "Helo", "new_str": "Hello", **LOW}
NATIVE = [
    {
        "content": "I look at the file and at the folder.",
        "reasoning_content": "The task names one file. I read it before I change it.",
        "tool_calls": [
            call(0, "str_replace_editor", {"command": "view", "path": FILE, **LOW}),
            call(1, "execute_bash", '{"command":"ls /srv/demo", "security_risk": "LOW"}'),
        ],
    },
    {"content": "", "tool_calls": [call(2, "str_replace_editor", REPLACE)]},
    {"content": "", "tool_calls": [call(3, "run_tests", {})]},
    {"content": "", "tool_calls": [call(4, "think", {"thought": "There are no tests; I look once more."})]},
    {"content": "", "tool_calls": [call(5, "execute_bash", {"command": f"tail -1 {FILE}", **LOW})]},
    {"content": "Done.", "tool_calls": [call(6, "finish", {"message": "hello.py says Hello now."})]},
]
TEXT = [
    {"content": "I look at the file.\n" + written("str_replace_editor", command="view", path=FILE, **LOW)},
    {"content": written("str_replace_editor", **REPLACE)},
    {"content": written("execute_bash", command=f"tail -1 {FILE}", **LOW)},
    {"content": written("execute_bash", command=f"head -1 {FILE}", **LOW)},
    {"content": written("execute_bash", command=f"wc -l {FILE}", **LOW)},
    {"content": written("finish", message="hello.py says Hello now.")},
]


def serve(script):
    steps = enumerate(script)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            is_condenser = len(body["messages"]) == 1
            number, message = ("summary", {"content": SUMMARY}) if is_condenser else next(steps)
            reason = "tool_calls" if message.get("tool_calls") else "stop"
            choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", **message}}
            usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
            answer = {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "created": 1760000000,
                "choices": [choice],
            }
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({**answer, "model": body["model"], "usage": usage}).encode())

    server = http.server.HTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


async def run(name):
    is_native = name == "native"
    serve(NATIVE if is_native else TEXT)
    FOLDER.mkdir(parents=True, exist_ok=True)
    Path(FILE).write_text('def greet(name):\n    return "Helo " + name\n')
    shutil.rmtree(HERE / name, ignore_errors=True)
    shutil.rmtree(f"/srv/{name}", ignore_errors=True)
    llm = LLMConfig(
        model="openai/scripted",
        base_url=f"http://127.0.0.1:{PORT}/v1",
        api_key=SecretStr("none"),
        native_tool_calling=is_native,
        log_completions=True,
        log_completions_folder=str(HERE / name),
        num_retries=0,
        caching_prompt=False,
    )
    config = OpenHandsConfig(
        default_agent="CodeActAgent",
        runtime="cli",
        workspace_base=str(FOLDER),
        save_trajectory_path=str(EVENTS / f"{name}.json"),
        file_store="local",
        file_store_path=f"/srv/{name}",
        enable_browser=False,
    )
    config.set_llm_config(llm)
    condenser = LLMSummarizingCondenserConfig(llm_config=llm, keep_first=2, max_size=10)
    config.set_agent_config(
        AgentConfig(
            enable_browsing=False,
            enable_jupyter=False,
            enable_plan_mode=False,
            condenser=NoOpCondenserConfig() if is_native else condenser,
        )
    )
    task = MessageAction(content="Correct the spelling in hello.py.")
    await run_controller(config=config, initial_user_action=task, sid="demo", fake_user_response_fn=lambda _: "/exit")
    if not is_native:
        shutil.rmtree(EVENTS / "store", ignore_errors=True)
        shutil.copytree(f"/srv/{name}/sessions/demo/events", EVENTS / "store" / "demo" / "events")


asyncio.run(run(sys.argv[1]))
