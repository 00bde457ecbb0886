import type { Run } from "../../data/run";

/** The turn with its context, its demonstrated action and the samples of one source. */
export async function turnAsJson(run: Run, source: number, turn: number): Promise<string> {
  const text = await run.trajectoryText(run.trajectoryOf(turn));
  const at = run.index.turns.message[turn] ?? 0;
  const reason = (code: number) => (code < 0 ? null : run.code(code));
  const samples = await run.samples(source, turn);
  const record = {
    turn_id: run.turnId(turn),
    source: run.head.sources[source]?.name,
    pivot: run.isPivot(turn),
    status: run.code(run.status(turn)),
    pass_rate: run.rate(source, turn),
    tools: text.tools,
    context: text.messages.slice(0, at),
    logged: text.messages[at],
    ...(samples && {
      ...samples,
      actions: samples.actions.map((action) => ({ ...action, reason: reason(action.reason) })),
    }),
  };
  return JSON.stringify(record, null, 2);
}
