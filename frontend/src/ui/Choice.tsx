import { useId } from "react";

interface Props<T extends string> {
  label: string;
  value: T;
  options: [value: T, text: string][];
  onChange: (value: T) => void;
  testId: string;
}

/** A few alternatives side by side: radio buttons that look like one control. */
export function Choice<T extends string>({ label, value, options, onChange, testId }: Props<T>) {
  const name = useId();
  return (
    <fieldset className="choice" data-testid={testId}>
      <legend className="hidden">{label}</legend>
      {options.map(([option, text]) => (
        <label key={option} data-chosen={option === value}>
          <input
            type="radio"
            name={name}
            checked={option === value}
            onChange={() => onChange(option)}
            data-testid={`${testId}-${option}`}
          />
          {text}
        </label>
      ))}
    </fieldset>
  );
}
