import type { Chunks } from "./chunks";
import type { Head, Index, Results, TrajectoryText, TurnSamples } from "./schema";

/** What the samples of a turn say about it. */
export type TurnState = "mixed" | "pass" | "fail" | "unknown" | "none";

/** The head and the index of a run, with the look-ups that every view needs. Turns are row numbers of `index.turns`. */
export class Run {
  readonly numTurns: number;
  readonly numTrajectories: number;
  /** For each source, the row of `results` of each turn, or -1. */
  private readonly rows: Int32Array[];
  private readonly byTurnId = new Map<string, number>();

  constructor(
    readonly head: Head,
    readonly index: Index,
    readonly chunks: Chunks,
  ) {
    this.numTurns = index.turns.trajectory.length;
    this.numTrajectories = index.trajectories.id.length;
    this.rows = index.results.map((results) => {
      const rows = new Int32Array(this.numTurns).fill(-1);
      results.turn.forEach((turn, row) => (rows[turn] = row));
      return rows;
    });
    for (let turn = 0; turn < this.numTurns; turn++) this.byTurnId.set(this.turnId(turn), turn);
  }

  turnId(turn: number): string {
    return `${this.trajectoryId(this.trajectoryOf(turn))}#${this.at(this.index.turns.message, turn)}`;
  }

  findTurn(id: string): number | undefined {
    return this.byTurnId.get(id);
  }

  findTrajectory(id: string): number {
    return this.index.trajectories.id.indexOf(id);
  }

  findSource(name: string | undefined): number {
    return Math.max(
      0,
      this.head.sources.findIndex((source) => source.name === name),
    );
  }

  /** A run that was only read has no source yet. */
  sourceTitle(source: number): string {
    return this.head.sources[source]?.title ?? "no samples yet";
  }

  trajectoryOf(turn: number): number {
    return this.at(this.index.turns.trajectory, turn);
  }

  trajectoryId(trajectory: number): string {
    return this.index.trajectories.id[trajectory] ?? "";
  }

  /** `train`, `heldout` or `episode`. */
  splitOf(turn: number): string {
    return this.index.trajectories.split[this.trajectoryOf(turn)] ?? "";
  }

  /** At other turns a label is at most a note: `pivotrl select` leaves out the rest, and refuses turns of episodes. */
  isToTrainOn(turn: number): boolean {
    return this.splitOf(turn) === "train";
  }

  turnsOf(trajectory: number): number[] {
    const first = this.at(this.index.trajectories.first_turn, trajectory);
    return Array.from({ length: this.at(this.index.trajectories.num_turns, trajectory) }, (_, i) => first + i);
  }

  row(source: number, turn: number): number {
    return this.rows[source]?.[turn] ?? -1;
  }

  /** Mean reward of the judged samples; null: there is no verdict, or the turn was not sampled. */
  rate(source: number, turn: number): number | null {
    const row = this.row(source, turn);
    return row < 0 ? null : (this.index.results[source]?.mean[row] ?? null);
  }

  state(source: number, turn: number): TurnState {
    if (this.row(source, turn) < 0) return "none";
    const rate = this.rate(source, turn);
    return rate === null ? "unknown" : rate >= 1 ? "pass" : rate <= 0 ? "fail" : "mixed";
  }

  /** One number of a turn's results, 0 where the turn was not sampled. */
  count(source: number, turn: number, column: "passed" | "failed" | "unknown" | "cut_off" | "malformed"): number {
    const row = this.row(source, turn);
    return row < 0 ? 0 : (this.index.results[source]?.[column][row] ?? 0);
  }

  /** Code of the commonest reason among samples that did not pass, or -1. */
  reason(source: number, turn: number): number {
    const row = this.row(source, turn);
    return row < 0 ? -1 : (this.index.results[source]?.reason[row] ?? -1);
  }

  isPivot(turn: number): boolean {
    return this.index.turns.pivot[turn] === 1;
  }

  tool(turn: number): string {
    return this.index.tools[this.at(this.index.turns.tool, turn)] || "(message)";
  }

  code(code: number): string {
    return this.index.codes[code] ?? "";
  }

  reasonWords(code: number): string {
    const name = this.code(code);
    return this.head.explain.reasons[name] ?? name.replaceAll("_", " ");
  }

  statusWords(code: number): string {
    const name = this.code(code);
    return this.head.explain.statuses[name] ?? name.replaceAll("_", " ");
  }

  status(turn: number): number {
    return this.at(this.index.turns.status, turn);
  }

  async trajectoryText(trajectory: number): Promise<TrajectoryText> {
    const { chunk, slot } = this.index.trajectories;
    const text = (await this.chunks.get(this.at(chunk, trajectory))).trajectories?.[this.at(slot, trajectory)];
    if (!text) throw new Error(`The page has no text for trajectory ${this.trajectoryId(trajectory)}.`);
    return text;
  }

  async samples(source: number, turn: number): Promise<TurnSamples | null> {
    const results: Results | undefined = this.index.results[source];
    const row = this.row(source, turn);
    if (!results || row < 0) return null;
    return (await this.chunks.get(this.at(results.chunk, row))).samples?.[this.at(results.slot, row)] ?? null;
  }

  private at(column: number[], row: number): number {
    return column[row] ?? -1;
  }
}
