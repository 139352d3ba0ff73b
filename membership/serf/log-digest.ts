// Shortens a log in which the same lines repeat: one line of a kind stays, with the number of its kind. Pure.

/** Kinds told apart; lines of further kinds are counted together. */
const MAX_KINDS = 200
/** A kept line is cut at this length. */
const MAX_LINE = 512

export type LogDigest = {
  readonly text: string
  readonly lines: number
  /** The line whose kind occurs most often. */
  readonly mostFrequent: string
}

export function digestLog(text: string): LogDigest {
  const kinds = new Map<string, { readonly line: string; count: number }>()
  let lines = 0
  let others = 0
  for (const line of text.split('\n')) {
    if (line === '') continue
    lines += 1
    const kind = kindOf(line)
    const known = kinds.get(kind)
    if (known !== undefined) known.count += 1
    else if (kinds.size < MAX_KINDS) kinds.set(kind, { line: line.slice(0, MAX_LINE), count: 1 })
    else others += 1
  }
  const kept = [...kinds.values()]
  const most = kept.reduce((best, next) => (next.count > best.count ? next : best), { line: '', count: 0 })
  const rest = others === 0 ? [] : [`and ${others} lines of other kinds`]
  const shown = kept.map(({ line, count }) => (count === 1 ? line : `${line} (${count} lines alike)`))
  return { text: [...shown, ...rest, ''].join('\n'), lines, mostFrequent: most.line }
}

/** Lines that differ in numbers alone, such as times, addresses and ports, are of one kind. */
function kindOf(line: string): string {
  return line.slice(0, MAX_LINE).replaceAll(/[0-9]+/g, '0')
}
