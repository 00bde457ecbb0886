/** What `pivotrl view` writes into the page. `src/pivotrl/report/browser/` writes the same shapes. */

export interface Head {
  format: 1;
  run: string;
  made_with: string;
  facts: [string, string][];
  trajectories_sha256: string;
  sources: Source[];
  /** Sources that can be compared turn by turn: indices into `sources`, and a title. */
  pairs: [before: number, after: number, title: string][];
  /** Plain words for codes. */
  explain: { reasons: Record<string, string>; statuses: Record<string, string> };
  chunks: number;
  heat: Channel[];
  notices: string[];
  /** Labels that the page begins with. */
  labels?: FileLabel[];
  /** Of a page about a comparison of methods. */
  comparison?: Comparison;
}

/** What `pivotrl compare` found, on tasks that chose nothing. */
export interface Comparison {
  /** Names of `measures`: what counts, and what is forgotten. */
  score: string;
  harm: string | null;
  advice: string;
  measures: { name: string; label: string; unit: "share" | "nats" }[];
  methods: string[];
  /** The policy before training first. */
  policies: Policy[];
}

/** A checkpoint, mean over its seeds. */
export interface Policy {
  policy: string;
  /** Index into `methods`; -1 before training. */
  method: number;
  rate: number;
  step: number;
  seeds: number;
  rollout_turns: number;
  seconds: number;
  /** By measure: its mean, and its change from before training with a 95 % interval; null for unknown. */
  values: Record<string, [level: number | null, change: number | null, low: number | null, high: number | null]>;
  /** Validation chose it for its method. */
  best: boolean;
}

/** A label as files hold it (labels/file.ts). Only the turn id is required. */
export interface FileLabel {
  turn_id: string;
  drop?: boolean;
  note?: string;
  accept?: { content: string | null; tool_calls: Call[] }[];
}

export type Channel = "logprob" | "reference" | "entropy" | "ratio";

export interface Source {
  name: string;
  title: string;
  kind: "profile" | "evaluation" | "training";
  /** In a comparison, whose sources are chosen in two steps: the policy, and how it was sampled. */
  policy?: string;
  draw?: string;
}

/** Chunk 0. Columns: arrays of equal length. */
export interface Index {
  trajectories: {
    id: string[];
    task: string[];
    split: string[];
    reward: (number | null)[];
    source: (number | null)[];
    note: string[];
    num_messages: number[];
    chunk: number[];
    slot: number[];
    first_turn: number[];
    num_turns: number[];
  };
  tools: string[];
  codes: string[];
  turns: {
    trajectory: number[];
    message: number[];
    depth: number[];
    tool: number[];
    status: number[];
    pivot: number[];
    steps: number[];
    prompt: number[];
    prompt_slot: number[];
  };
  /** One for each source, only turns with samples in it. */
  results: Results[];
  clusters: Cluster[];
}

export interface Results {
  turn: number[];
  passed: number[];
  failed: number[];
  unknown: number[];
  mean: (number | null)[];
  cut_off: number[];
  malformed: number[];
  reason: number[];
  chunk: number[];
  slot: number[];
}

/** Equal wrong actions, commonest first. `tool` is that of the expert. */
export interface Cluster {
  source: number;
  tool: number;
  reason: number;
  /** With long texts cut. */
  act: Act;
  /** What was sampled, if no action could be read from it. */
  text: string;
  count: number;
  turns: number[];
}

export interface Chunk {
  trajectories?: TrajectoryText[];
  samples?: TurnSamples[];
  prompts?: PromptText[];
}

export interface TrajectoryText {
  tools: Tool[];
  messages: Msg[];
  metadata: Record<string, unknown>;
  losses: string[];
  /** By message index. */
  view?: Record<string, unknown>;
}

export interface Tool {
  name: string;
  description: string;
  parameters: unknown;
}

export interface Call {
  name: string;
  arguments: string;
}

export interface Msg {
  role: "system" | "user" | "assistant" | "tool";
  content: string | null;
  reasoning: string | null;
  calls: (Call & { id: string | null })[];
  call_id: string | null;
  excluded?: string;
}

export interface Act {
  content: string | null;
  calls: Call[];
}

export type Outcome = "pass" | "fail" | "no_verdict" | "partial";

export interface TurnSamples {
  expected: Act;
  accepted: Act[];
  actions: SampledAction[];
}

/** Samples with the same action: equal by canonical JSON of the calls, or by stripped text. */
export interface SampledAction {
  act: Act;
  text: string;
  count: number;
  outcome: Outcome;
  reward: number | null;
  reason: number;
  detail: string;
  /** -1 the expected action, else an index into `accepted`, -2 none. */
  nearest: number;
  samples: Sample[];
}

export interface Sample {
  number: number;
  text?: string;
  tokens: number;
  finish: "stop" | "length";
  error: string | null;
  step: number | null;
  reward: number | null;
  /** Of the training whose policy drew it, where several were trained alike. */
  seed?: number;
  heat?: Heat;
}

export type Heat = { tokens: string[] } & { [channel in Channel]?: (number | null)[] };

export interface PromptText {
  /** Slot in the same chunk whose text this one begins with, -1 none. */
  base: number;
  /** UTF-16 code units shared with it. */
  prefix: number;
  text: string;
  tokens: number;
  /** What was cut and why, or "". */
  cut: string;
}
