"""The core of tier 1, told by Anthropic's own Python SDK, unmodified:

    python3 -m venv DIR && DIR/bin/pip install anthropic
    DIR/bin/python test/sdk/story.py http://127.0.0.1:PORT [KEY]

The server needs the model of story-model.ts and the backend `orders` of orders.ts. One line of JSON per step; the exit code is the verdict.
"""

import json
import sys
import threading
import time
import uuid

import anthropic
from anthropic import Anthropic

PATIENCE_SECONDS = 60

WEATHER = {
    "type": "custom",
    "name": "get_weather",
    "description": "Says the weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ORDERS = {
    "type": "mcp_toolset",
    "mcp_server_name": "orders",
    "configs": [{"name": "get_order", "permission_policy": {"type": "always_allow"}}],
}


def text(words):
    return [{"type": "text", "text": words}]


def said(words):
    return {"type": "user.message", "content": text(words)}


class Watch:
    """Follows a stream beside the story; hears what happens from the moment it is open."""

    def __init__(self, client, session_id):
        self.events = []
        self.read = 0
        self.failure = None
        self.news = threading.Condition()
        self.stream = client.beta.sessions.events.stream(session_id)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        try:
            for event in self.stream:
                with self.news:
                    self.events.append(event)
                    self.news.notify_all()
        except Exception as error:  # noqa: BLE001: whoever waits is told.
            self.failure = error
        with self.news:
            self.news.notify_all()

    def next(self, kind, such=lambda event: True):
        end = time.monotonic() + PATIENCE_SECONDS
        with self.news:
            while True:
                for at in range(self.read, len(self.events)):
                    if self.events[at].type == kind and such(self.events[at]):
                        self.read = at + 1
                        return self.events[at]
                left = end - time.monotonic()
                heard = [event.type for event in self.events]
                assert left > 0 and self.failure is None, f"waited in vain for {kind}: {self.failure or heard}"
                self.news.wait(left)

    def idle(self, reason):
        event = self.next("session.status_idle")
        assert event.stop_reason.type == reason, f"{event.stop_reason} and not {reason}"
        return event

    def heard(self):
        with self.news:
            return list(self.events)


def refused(kind, call):
    try:
        call()
    except kind as error:
        assert error.response.headers.get("request-id", "").startswith("req_"), "a refusal without a request id"
        assert error.body["type"] == "error", error.body
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def tell(client):
    beta = client.beta

    def step(name):
        print(json.dumps({"step": name}), flush=True)

    step("agent")
    name = f"python {uuid.uuid4().hex[:12]}"
    agent = beta.agents.create(
        name=name,
        model="claude-opus-5-5",
        tools=[WEATHER, ORDERS],
        mcp_servers=[{"type": "url", "name": "orders", "url": "reins:orders"}],
    )
    assert (agent.version, agent.name) == (1, name)
    assert beta.agents.retrieve(agent.id).to_dict() == agent.to_dict()
    second = beta.agents.update(agent.id, version=1, description="Second.")
    assert (second.version, second.description) == (2, "Second.")
    refused(anthropic.ConflictError, lambda: beta.agents.update(agent.id, version=1, description="Third."))
    refused(anthropic.NotFoundError, lambda: beta.agents.retrieve("agent_nobody"))
    assert [one.version for one in beta.agents.versions.list(agent.id, limit=1)] in ([1, 2], [2, 1])

    step("environment")
    environment = beta.environments.create(name=name, config={"type": "self_hosted"})
    assert beta.environments.retrieve(environment.id).to_dict() == environment.to_dict()

    step("session")
    session = beta.sessions.create(agent=agent.id, environment_id=environment.id, title="Python")
    assert (session.status, session.title, session.agent.version) == ("idle", "Python", 2)
    refused(anthropic.BadRequestError, lambda: beta.sessions.events.send(session.id, events=[]))

    step("stream and send")
    watch = Watch(client, session.id)
    sent = beta.sessions.events.send(session.id, events=[said("Hello.")])
    assert watch.next("user.message").id == sent.data[0].id
    assert watch.next("agent.message").content[0].text
    watch.idle("end_turn")
    assert beta.sessions.retrieve(session.id).status == "idle"

    step("custom tool")
    beta.sessions.events.send(session.id, events=[said('[[call get_weather {"city":"Oslo"}]]')])
    use = watch.next("agent.custom_tool_use")
    assert (use.name, use.input) == ("get_weather", {"city": "Oslo"})
    assert watch.idle("requires_action").stop_reason.event_ids == [use.id]
    refused(anthropic.BadRequestError, lambda: beta.sessions.events.send(session.id, events=[said("Hello?")]))
    beta.sessions.events.send(
        session.id,
        events=[{"type": "user.custom_tool_result", "custom_tool_use_id": use.id, "content": text("4 degrees")}],
    )
    watch.next("agent.message", lambda event: "4 degrees" in event.content[0].text)
    watch.idle("end_turn")

    step("confirmation")
    for answer, wanted in ((dict(result="allow"), False), (dict(result="deny", deny_message="Not today."), True)):
        beta.sessions.events.send(session.id, events=[said('[[call refund {"id":"python","cents":5}]]')])
        use = watch.next("agent.mcp_tool_use")
        assert (use.evaluated_permission, use.mcp_server_name) == ("ask", "orders")
        assert watch.idle("requires_action").stop_reason.event_ids == [use.id]
        beta.sessions.events.send(session.id, events=[{"type": "user.tool_confirmation", "tool_use_id": use.id, **answer}])
        result = watch.next("agent.mcp_tool_result")
        assert (result.mcp_tool_use_id, bool(result.is_error)) == (use.id, wanted)
        watch.idle("end_turn")

    step("interrupt")
    beta.sessions.events.send(session.id, events=[said("<<hang>>")])
    watch.next("span.model_request_start")
    beta.sessions.events.send(session.id, events=[{"type": "user.interrupt"}])
    watch.idle("end_turn")

    step("list")
    listed = list(beta.sessions.events.list(session.id, limit=5))
    heard = {event.id: event for event in watch.heard()}
    # A client that drops events it does not know hears fewer than are listed, and never others or in another order.
    assert [event.id for event in listed if event.id in heard] == list(heard), "list and stream tell different stories"
    assert [event.id for event in beta.sessions.events.list(session.id, order="desc")] == [event.id for event in listed][::-1]
    assert [one.id for one in beta.sessions.list(agent_id=agent.id, statuses=["idle"], limit=1)] == [session.id]

    step("archive")
    archived = beta.sessions.archive(session.id)
    assert archived.status == "terminated" and archived.archived_at is not None
    watch.next("session.status_terminated")
    refused(anthropic.ConflictError, lambda: beta.sessions.events.send(session.id, events=[said("Still there?")]))

    step("delete")
    assert beta.sessions.delete(session.id).type == "session_deleted"
    watch.next("session.deleted")
    refused(anthropic.NotFoundError, lambda: beta.sessions.retrieve(session.id))
    assert beta.environments.delete(environment.id).type == "environment_deleted"
    assert beta.agents.archive(agent.id).archived_at is not None


if __name__ == "__main__":
    base_url, key = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "any"
    tell(Anthropic(base_url=base_url, api_key=key))
    print(json.dumps({"done": True, "anthropic": anthropic.__version__}), flush=True)
