// How results are shown: a table for people, JSON or YAML for programs. Pure.

import { stringify } from 'yaml'

export type Format = 'table' | 'json' | 'yaml'

/** A column: its heading and how a row fills it. */
export type Column<Row> = readonly [heading: string, cell: (row: Row) => string]

export function render(format: Exclude<Format, 'table'>, value: unknown): string {
  return format === 'json' ? `${JSON.stringify(value, null, 2)}\n` : stringify(value)
}

/** Columns as wide as their content, two spaces between. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = [
    columns.map(([heading]) => heading),
    ...rows.map(row => columns.map(([, cell]) => printable(cell(row))))
  ]
  const widths = columns.map((_, at) => Math.max(...cells.map(line => line[at]?.length ?? 0)))
  return cells
    .map(
      line =>
        `${line
          .map((cell, at) => cell.padEnd(widths[at] ?? 0))
          .join('  ')
          .trimEnd()}\n`
    )
    .join('')
}

/** One object as lines of name and value. */
export function facts(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length))
  return pairs.map(([name, value]) => `${`${name.padEnd(width)}  ${printable(value)}`.trimEnd()}\n`).join('')
}

/** Text from elsewhere must not steer the terminal: no control, format (right-to-left) or separator characters. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?')
}
