"""A real conversation: openhands-sdk and openhands-tools 1.58.2 with the SDK's own TestLLM.

    python make_samples.py   # Python >= 3.12; works in /srv/demo

``requests.json`` is what the SDK sent for each answer, the system message apart.
"""

import json
import shutil
from pathlib import Path

from openhands.sdk import Agent, Conversation, Tool
from openhands.sdk.context.condenser import LLMSummarizingCondenser
from openhands.sdk.llm import Message, MessageToolCall, TextContent
from openhands.sdk.testing import TestLLM
from openhands.tools.file_editor import FileEditorTool
from openhands.tools.terminal import TerminalTool

HERE = Path(__file__).parent
FOLDER = Path("/srv/demo")
FILE = str(FOLDER / "hello.py")


def call(number, name, arguments):
    return MessageToolCall(id=f"call_{number}", name=name, arguments=arguments, origin="completion")


def says(text, *calls, **more):
    content = [TextContent(text=text)] if text else []
    return Message(role="assistant", content=content, tool_calls=list(calls) or None, **more)


def edit(**arguments):
    return json.dumps(
        {**arguments, "path": FILE, "security_risk": "LOW", "summary": f"{arguments['command']} the file"}
    )


def shell(command):
    return json.dumps({"command": command, "security_risk": "LOW", "summary": "run a command"}, separators=(",", ":"))


SCRIPT = [
    says(
        "I look at the file and at the folder.",
        call(0, "file_editor", edit(command="view")),
        call(1, "terminal", shell(f"ls {FOLDER}")),
        reasoning_content="The task names one file. I read it before I change it.",
    ),
    says("", call(2, "file_editor", edit(command="str_replace", old_str="Helo", new_str="Hello"))),
    says("", call(3, "run_tests", "{}")),
    says("", call(4, "terminal", '{"cmd": "cat hello.py"}')),
    says("The folder has no tests, so I look once more.", call(5, "terminal", shell(f"tail -1 {FILE}"))),
    says("", call(6, "finish", '{"message": "hello.py says Hello now."}')),
    says("It greets by name."),
    says("", call(7, "terminal", shell("false"))),
    says("The command fails with code 1."),
]
requests = []


class Recorder(TestLLM):
    def completion(self, messages, tools=None, **more):
        requests.append([message.model_dump(mode="json", exclude_none=True) for message in messages[1:]])
        return super().completion(messages, tools, **more)


def main():
    shutil.rmtree(HERE / "conversation", ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    Path(FILE).write_text('def greet(name):\n    return "Helo " + name\n')
    summaries = TestLLM.from_messages([says("SUMMARY: hello.py was read and corrected.")], usage_id="condenser")
    agent = Agent(
        llm=Recorder.from_messages(SCRIPT, usage_id="agent"),
        tools=[Tool(name=TerminalTool.name), Tool(name=FileEditorTool.name)],
        condenser=LLMSummarizingCondenser(llm=summaries, max_size=14, keep_first=2),
    )
    conversation = Conversation(agent=agent, workspace=str(FOLDER), persistence_dir="/srv/kept", visualizer=None)
    for text in ("Correct the spelling in hello.py.", "What does it do?", "Run a command that fails."):
        conversation.send_message(text)
        conversation.run()
    shutil.copytree(f"/srv/kept/{conversation.id.hex}", HERE / "conversation", ignore=shutil.ignore_patterns(".*"))
    conversation.close()
    (HERE / "requests.json").write_text(json.dumps(requests, indent=1) + "\n")


main()
