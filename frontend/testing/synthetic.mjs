/** A made-up run for tests, screenshots and measurements: shop-like tool calls, with some hostile text. Same seed, same run. */

function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const TOOLS = ["", "find_orders", "get_order", "cancel_order", "send_refund", "search_products"];
const CODES = [
  "selected",
  "all_passed",
  "all_failed",
  "no_verdict",
  "not_profiled",
  "too_long",
  "wrong_argument",
  "wrong_tool",
  "message_instead",
  "not_json",
  "cut_off",
  "verifier_error",
];
const WORDS =
  "the customer asked whether order could be changed after it had shipped and who pays for return of damaged lamp blue kettle size large delivery address street invoice refund voucher please check status again thank you".split(
    " ",
  );
const HOSTILE = [
  '<img src=x onerror="window.__hacked=1">',
  "</script><script>window.__hacked=1</script>",
  "\u001b[31mred\u001b[0m text",
  '=HYPERLINK("http://x","y")',
  "[click](javascript:alert(1)) **bold**",
  "İstanbul \u202Egnp.exe",
];

export function synthetic({ trajectories = 40, turns = 12, samples = 8, seed = 7, chunkSize = 40 } = {}) {
  const random = generator(seed);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const words = (count) => Array.from({ length: count }, () => pick(WORDS)).join(" ");
  const code = (name) => CODES.indexOf(name);
  const chunks = [];
  const heads = {
    id: [],
    task: [],
    split: [],
    reward: [],
    source: [],
    note: [],
    num_messages: [],
    chunk: [],
    slot: [],
    first_turn: [],
    num_turns: [],
  };
  const columns = {
    trajectory: [],
    message: [],
    depth: [],
    tool: [],
    status: [],
    pivot: [],
    steps: [],
    prompt: [],
    prompt_slot: [],
  };
  const sources = [
    { name: "profile", title: "Reference policy (profile)", kind: "profile" },
    { name: "evaluation/before", title: "Before training", kind: "evaluation" },
    { name: "evaluation/after", title: "After training", kind: "evaluation" },
    { name: "training/train", title: "Samples drawn in training", kind: "training" },
  ];
  const results = sources.map(() => ({
    turn: [],
    passed: [],
    failed: [],
    unknown: [],
    mean: [],
    cut_off: [],
    malformed: [],
    reason: [],
    chunk: [],
    slot: [],
  }));
  const clusters = new Map();

  const room = (kind) => {
    let last = chunks.at(-1);
    if (!last || last.used >= chunkSize) chunks.push((last = { used: 0, trajectories: [], samples: [], prompts: [] }));
    last.used++;
    return { chunk: chunks.length, list: last[kind] };
  };
  const place = (kind, value) => {
    const { chunk, list } = room(kind);
    list.push(value);
    return [chunk, list.length - 1];
  };
  const argumentsOf = (tool, order) =>
    JSON.stringify(
      tool === "search_products"
        ? { query: words(3), limit: 5 }
        : {
            order_id: `W${order}`,
            ...(tool === "cancel_order" ? { reason: pick(["no longer needed", "ordered by mistake"]) } : {}),
          },
    );

  const makeSamples = (turn, source, expected, chance, tool, order) => {
    const groups = new Map();
    const count = { passed: 0, failed: 0, unknown: 0, cut_off: 0, malformed: 0 };
    const blind = turn % 29 === 5;
    for (let number = 0; number < samples; number++) {
      const passes = random() < chance;
      const wrong = pick(["wrong_argument", "wrong_argument", "wrong_tool", "message_instead", "not_json", "cut_off"]);
      let act = expected;
      let outcome = "pass";
      let reason = -1;
      if (blind) [outcome, reason] = ["no_verdict", code("verifier_error")];
      else if (!passes) [outcome, reason] = ["fail", code(wrong)];
      if (!passes) {
        const call = expected.calls[0];
        if (wrong === "wrong_argument" && call)
          act = {
            content: null,
            calls: [
              {
                name: call.name,
                arguments: JSON.stringify({
                  ...JSON.parse(call.arguments),
                  order_id: `W${order + 1 + Math.floor(random() * 2)}`,
                }),
              },
            ],
          };
        else if (wrong === "wrong_tool")
          act = { content: null, calls: [{ name: pick(TOOLS.slice(1)), arguments: `{"order_id":"W${order}"}` }] };
        else if (wrong === "not_json")
          act = { content: `<tool_call>{"name": "${tool || "x"}", "arguments": {"order_id": `, calls: [] };
        else act = { content: `I ${words(8)}. ${turn % 11 === 3 ? HOSTILE[turn % HOSTILE.length] : ""}`, calls: [] };
      }
      count[outcome === "pass" ? "passed" : outcome === "fail" ? "failed" : "unknown"]++;
      if (wrong === "cut_off" && !passes) count.cut_off++;
      if (wrong === "not_json" && !passes) count.malformed++;
      const key = JSON.stringify([act, outcome]);
      const reward = outcome === "no_verdict" ? null : outcome === "pass" ? 1 : 0;
      if (!groups.has(key)) {
        const text = `<think>${words(12)}</think>\n${act.calls.length ? `<tool_call>${JSON.stringify({ name: act.calls[0].name, arguments: JSON.parse(act.calls[0].arguments) })}</tool_call>` : act.content}`;
        groups.set(key, {
          act,
          text,
          count: 0,
          outcome,
          reward,
          reason,
          detail: reason === code("wrong_argument") ? `order_id: expected "W${order}"` : "",
          nearest: -1,
          samples: [],
        });
      }
      const group = groups.get(key);
      group.count++;
      const tokens = group.text.match(/\s*\S{1,6}/g) ?? [];
      const values = (low, high) => tokens.map((_, i) => (i === 0 ? null : low + random() * (high - low)));
      const heat =
        turn < 200
          ? { tokens, logprob: values(-6, 0), reference: values(-6, 0), entropy: values(0, 3), ratio: values(0.6, 1.4) }
          : undefined;
      group.samples.push({
        number,
        tokens: tokens.length,
        finish: wrong === "cut_off" && !passes ? "length" : "stop",
        ...(number % 3 === 2 ? { text: group.text.replace("<think>", `<think>${words(4)} `) } : heat ? { heat } : {}),
        error: outcome === "no_verdict" ? "the verifier raised TimeoutError" : null,
        step: source === 3 ? 1 + (number % 4) * 3 : null,
        reward,
      });
    }
    const actions = [...groups.values()].sort((a, b) => b.count - a.count);
    const accepted =
      turn % 5 === 0 && expected.calls[0]
        ? [{ content: null, calls: [{ name: "get_order", arguments: `{"order_id":"W${order}","details":true}` }] }]
        : [];
    const [chunk, slot] = place("samples", { expected, accepted, actions });
    const row = results[source];
    const worst = actions.find((action) => action.outcome !== "pass");
    const judged = count.passed + count.failed;
    for (const [key, value] of Object.entries({
      turn,
      ...count,
      mean: judged ? count.passed / judged : null,
      reason: worst ? worst.reason : -1,
      chunk,
      slot,
    }))
      row[key].push(value);
    for (const action of actions) {
      if (action.outcome !== "fail") continue;
      const name = JSON.stringify([source, action.act]);
      const cluster = clusters.get(name) ?? {
        source,
        tool: Math.max(0, TOOLS.indexOf(action.act.calls[0]?.name ?? "")),
        act: action.act,
        text: "",
        reason: action.reason,
        count: 0,
        turns: [],
      };
      cluster.count += action.count;
      if (!cluster.turns.includes(turn)) cluster.turns.push(turn);
      clusters.set(name, cluster);
    }
    return judged ? count.passed / judged : null;
  };

  for (let t = 0; t < trajectories; t++) {
    const order = 1000 + Math.floor(random() * 50) * 10;
    const messages = [
      {
        role: "system",
        content: `You are a shop assistant. Policy: ${words(60)}`,
        reasoning: null,
        calls: [],
        call_id: null,
      },
      {
        role: "user",
        content: `${words(12)} W${order}? ${t % 9 === 1 ? HOSTILE[t % HOSTILE.length] : ""}`,
        reasoning: null,
        calls: [],
        call_id: null,
      },
    ];
    const first = columns.trajectory.length;
    const split = t % 8 === 7 ? "episode" : t % 5 === 4 ? "heldout" : "train";
    const length = Math.max(2, Math.round(turns * (0.6 + 0.8 * random())));
    let previous = -1;
    for (let d = 0; d < length; d++) {
      const turn = columns.trajectory.length;
      const tool = d === length - 1 ? "" : pick(TOOLS.slice(1));
      const expected = tool
        ? { content: null, calls: [{ name: tool, arguments: argumentsOf(tool, order) }] }
        : { content: `Done: ${words(6)}.`, calls: [] };
      const message = messages.length;
      messages.push({
        role: "assistant",
        content: expected.content,
        reasoning: d % 2 ? `I should ${words(9)}.` : null,
        calls: expected.calls.map((call) => ({ ...call, id: `c${d}` })),
        call_id: null,
      });
      if (tool)
        messages.push({
          role: "tool",
          content: JSON.stringify(
            d % 6 === 5
              ? Array.from({ length: 30 }, (_, i) => ({ sku: `P${i}`, name: words(4), price: i * 3 }))
              : { order_id: `W${order}`, status: pick(["pending", "shipped"]), note: words(5) },
          ),
          reasoning: null,
          calls: [],
          call_id: `c${d}`,
        });
      const ease = [0, 1, 0.5, 0.3, 0.8][Math.floor(random() * 5)];
      const profiled = random() > 0.06 && split !== "episode";
      let status = "not_profiled";
      if (profiled) {
        const rate = makeSamples(turn, 0, expected, ease, tool, order);
        status = rate === null ? "no_verdict" : rate === 1 ? "all_passed" : rate === 0 ? "all_failed" : "selected";
      }
      const isPivot = status === "selected";
      if (split === "heldout" && profiled) {
        makeSamples(turn, 1, expected, ease, tool, order);
        makeSamples(turn, 2, expected, Math.min(1, Math.max(0, ease + (random() < 0.2 ? -0.6 : 0.35))), tool, order);
      }
      if (isPivot && split === "train") makeSamples(turn, 3, expected, ease, tool, order);
      const text = `<|system|>You are a shop assistant.\n<|user|>W${order}\n${messages
        .slice(2, message)
        .map((m) => `<|${m.role}|>${m.content ?? JSON.stringify(m.calls)}`)
        .join("\n")}\n<|assistant|>`;
      const target = chunks.at(-1);
      const shared = previous >= 0 && target.prompts[previous] ? 20 : 0;
      const base = shared ? previous : -1;
      target?.prompts.push({
        base,
        prefix: shared,
        text: shared ? text.slice(20) : text,
        tokens: Math.round(text.length / 4),
        cut: d === 6 ? "messages 2 to 5 were cut: the prompt had more than 2,048 tokens" : "",
      });
      previous = -1;
      for (const [key, value] of Object.entries({
        trajectory: t,
        message,
        depth: d + 1,
        tool: TOOLS.indexOf(tool),
        status: code(status),
        pivot: isPivot ? 1 : 0,
        steps: isPivot && split === "train" ? 4 : 0,
        prompt: target ? chunks.length : -1,
        prompt_slot: target ? target.prompts.length - 1 : -1,
      }))
        columns[key].push(value);
    }
    const view =
      t % 8 === 7
        ? Object.fromEntries(
            messages.flatMap((m, i) =>
              m.role === "tool"
                ? [
                    [
                      i,
                      {
                        kind: "map",
                        nodes: [
                          { id: "a", x: 0, y: 0, label: "Kitchen" },
                          { id: "b", x: 1, y: 0, label: "Hall" },
                          { id: "c", x: 1, y: 1, label: "Garden" },
                        ],
                        edges: [
                          ["a", "b"],
                          ["b", "c"],
                        ],
                        here: "abc"[i % 3],
                      },
                    ],
                  ]
                : [],
            ),
          )
        : undefined;
    const [chunk, slot] = place("trajectories", {
      tools: TOOLS.slice(1).map((name) => ({
        name,
        description: `${name.replace("_", " ")}: ${words(8)}`,
        parameters: { type: "object", properties: { order_id: { type: "string" } } },
      })),
      messages,
      metadata: { seed: t },
      losses: t % 10 === 3 ? ["2 images were left out"] : [],
      ...(view ? { view } : {}),
    });
    for (const [key, value] of Object.entries({
      id: `t${t}`,
      task: `task ${t % 12}`,
      split,
      reward: t % 6 === 2 ? null : t % 3 ? 1 : 0,
      source: split === "episode" ? 2 : null,
      note: split === "episode" ? (t % 3 ? "solved" : "failed: turn limit") : "",
      num_messages: messages.length,
      chunk,
      slot,
      first_turn: first,
      num_turns: columns.trajectory.length - first,
    }))
      heads[key].push(value);
  }
  const index = {
    trajectories: heads,
    tools: TOOLS,
    codes: CODES,
    turns: columns,
    results,
    clusters: [...clusters.values()].sort((a, b) => b.count - a.count).slice(0, 500),
  };
  const head = {
    format: 1,
    run: "runs/synthetic",
    made_with: "pivotrl 0.1.0",
    facts: [
      ["Model", "tiny-1B"],
      ["Verifier", "tool_call"],
      ["Trajectories", String(trajectories)],
      ["Turns", String(columns.trajectory.length)],
      ["Samples a turn", String(samples)],
      ["Selection", "mixed outcomes, pass rate below 0.8"],
      ["Cost", "1.2 GPU hours, 3.4 million tokens"],
    ],
    trajectories_sha256: "ab".repeat(32),
    sources,
    pairs: [[1, 2, "Before and after training"]],
    explain: {
      reasons: {
        wrong_argument: "The call has a wrong argument",
        wrong_tool: "The call goes to another tool",
        message_instead: "A message instead of a call",
        not_json: "The call is not valid JSON",
        cut_off: "The sample was cut off at the token limit",
        verifier_error: "The verifier failed on this sample",
      },
      statuses: {
        selected: "Pivot: its samples both pass and fail",
        all_passed: "Dropped: all samples pass",
        all_failed: "Dropped: all samples fail",
        no_verdict: "Dropped: no verdict",
        not_profiled: "Not profiled",
        too_long: "Excluded: the prompt is too long",
      },
    },
    chunks: chunks.length + 1,
    heat: ["logprob", "reference", "entropy", "ratio"],
    notices: ["Heat is kept for the first 200 turns only."],
  };
  return {
    head,
    index,
    chunks: chunks.map(({ trajectories: t, samples: s, prompts }) => ({ trajectories: t, samples: s, prompts })),
  };
}
