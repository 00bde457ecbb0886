/** A turn id that gives way in its middle: ids of one log begin alike, and the end tells them apart. */
export function Id({ id }: { id: string }) {
  const cut = Math.max(0, id.length - TAIL);
  return (
    <span className="id" title={id}>
      <span className="id-head">{id.slice(0, cut)}</span>
      <span>{id.slice(cut)}</span>
    </span>
  );
}

const TAIL = 14;
