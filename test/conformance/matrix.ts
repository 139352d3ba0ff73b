// Turns the TAP of each plane into the matrix scenario x plane. Pure.

import type { Plane } from '../lab/stage.ts'

export function isPlane(text: string): text is Plane {
  return text === 'bpf' || text === 'linux' || text === 'ovs-netdev' || text === 'ovs-system'
}

/** The result of one scenario on one plane: `ok`, `FAILED`, or why it is not possible. */
export type Cell = string
export type Column = { readonly title: string; readonly cells: ReadonlyMap<string, Cell> }

/** Reads every top-level test; of two with one name the worse counts. A run that ends badly without a failed test fails as a whole. */
export function readColumn(title: string, p: { readonly tap: string; readonly exitCode: number }): Column {
  const cells = new Map<string, Cell>()
  for (const [, not, name = '', why] of p.tap.matchAll(/^(not )?ok \d+ - (\S+)(?:.*# SKIP ?(.*))?/gm)) {
    if (not !== undefined) cells.set(name, 'FAILED')
    else if (cells.get(name) !== 'FAILED') cells.set(name, why === undefined ? 'ok' : `not possible here (${why})`)
  }
  const bad = [...cells.values()].includes('FAILED')
  if ((p.exitCode !== 0 && !bad) || cells.size === 0) cells.set('the run itself', 'FAILED')
  return { title, cells }
}

export function failuresOf(columns: readonly Column[]): number {
  return columns.flatMap(({ cells }) => [...cells.values()]).filter(cell => cell === 'FAILED').length
}

export function passedOf(columns: readonly Column[]): number {
  return columns.flatMap(({ cells }) => [...cells.values()]).filter(cell => cell === 'ok').length
}

/** One line for each scenario; `-` if it does not apply to a plane. */
export function format(columns: readonly Column[]): string {
  const names = [...new Set(columns.flatMap(({ cells }) => [...cells.keys()]))]
  const rows = [
    ['scenario', ...columns.map(({ title }) => title)],
    ...names.map(name => [name, ...columns.map(({ cells }) => cells.get(name) ?? '-')])
  ]
  const widths = rows.reduce<number[]>((most, row) => row.map((cell, i) => Math.max(cell.length, most[i] ?? 0)), [])
  return rows
    .map(row =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd()
    )
    .join('\n')
}
