import { useId } from "react";

interface Props {
  label: string;
  value: string;
  options: [value: string, text: string][];
  onChange: (value: string) => void;
  testId: string;
  /** For long texts; "half" where two share a line. */
  wide?: boolean | "half";
}

/** The browser's own drop-down list with its label: the one every keyboard, phone and screen reader knows. */
export function Select({ label, value, options, onChange, testId, wide = false }: Props) {
  const id = useId();
  return (
    <span className="field">
      <label htmlFor={id}>{label}</label>
      <select
        id={id}
        className={wide === "half" ? "half" : wide ? "wide" : undefined}
        value={value}
        onChange={(event) => onChange(event.target.value)}
        data-testid={testId}
      >
        {options.map(([option, text]) => (
          <option key={option} value={option}>
            {text}
          </option>
        ))}
      </select>
    </span>
  );
}
