import { scaleLinear } from "@visx/scale";
import { type KeyboardEvent, useState } from "react";
import type { Channel, Heat as HeatData } from "../../data/schema";
import { LogText } from "../../ui/LogText";

interface ChannelWords {
  name: string;
  /** What the two ends of the scale are. */
  ends: [left: string, right: string];
  /** Values at which the colour is palest and strongest. A third is the strongest on the other side. */
  domain: number[];
}

export const CHANNELS: Record<Channel, ChannelWords> = {
  logprob: { name: "log-prob", ends: ["0, certain", "−5, unlikely"], domain: [0, -5] },
  reference: { name: "reference", ends: ["0, certain", "−5, unlikely"], domain: [0, -5] },
  entropy: { name: "entropy", ends: ["0 nats", "3 nats"], domain: [0, 3] },
  ratio: { name: "ratio", ends: ["less likely now, ½", "more likely now, 2"], domain: [0.5, 1, 2] },
};

/** Opacity of the heat: 0 is plain, 1 strongest. Ratios below 1 are negative. */
export function strength(channel: Channel, value: number): number {
  const { domain } = CHANNELS[channel];
  const range = domain.length === 3 ? [-1, 0, 1] : [0, 1];
  return scaleLinear<number>({ domain, range, clamp: true })(value);
}

/** A sample's tokens, coloured by one channel. Arrow keys step through them; the line below says the value. */
export function Heat({ heat, channel }: { heat: HeatData; channel: Channel }) {
  const [at, setAt] = useState(-1);
  const values = heat[channel];
  if (!values) return <p className="quiet">This sample has no {CHANNELS[channel].name}.</p>;
  const { name } = CHANNELS[channel];
  const move = (event: KeyboardEvent) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!by) return;
    event.preventDefault();
    setAt(Math.max(0, Math.min(heat.tokens.length - 1, at + by)));
  };
  return (
    <div className="heat-box">
      <pre
        className="code heat"
        tabIndex={0}
        aria-label={`Tokens with ${name}; arrow keys step through them`}
        onKeyDown={move}
        data-testid="heat-tokens"
      >
        {heat.tokens.map((token, i) => {
          const value = values[i];
          return (
            <span
              key={i}
              className={i === at ? "token at" : "token"}
              style={value == null ? {} : { backgroundColor: colour(strength(channel, value)) }}
              onPointerEnter={() => setAt(i)}
            >
              <LogText text={token} />
            </span>
          );
        })}
      </pre>
      <p className="heat-value" aria-live="polite" data-testid="heat-value">
        {at >= 0 && `Token ${at + 1} ${JSON.stringify(heat.tokens[at])}: ${name} ${number(values[at])}`}
      </p>
    </div>
  );
}

export function HeatLegend({ channel }: { channel: Channel }) {
  const [left, right] = CHANNELS[channel].ends;
  return (
    <p className="heat-legend quiet">
      {left} <span className={`heat-scale ${channel === "ratio" ? "two-sided" : ""}`} /> {right}. Point at a token, or
      use the arrow keys, to see its value.
    </p>
  );
}

function colour(strong: number): string {
  return `color-mix(in srgb, var(${strong < 0 ? "--cold" : "--hot"}) ${Math.round(70 * Math.abs(strong))}%, transparent)`;
}

function number(value: number | null | undefined): string {
  return value == null ? "not known" : value.toFixed(3);
}
