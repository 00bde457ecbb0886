/** The numbers behind a plot, one click away. */
export function Numbers({ head, rows, testId }: { head: string[]; rows: (string | number)[][]; testId: string }) {
  return (
    <details className="numbers" data-testid={testId}>
      <summary>Numbers</summary>
      <table>
        <thead>
          <tr>
            {head.map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, i) => (
            <tr key={i}>
              {row.map((value, j) => (
                <td key={j}>{value}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
