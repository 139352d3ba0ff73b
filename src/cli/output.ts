// Output formats: a table for people, JSON or YAML for programs. Pure.

import { stringify } from 'yaml'

export type Format = 'table' | 'json' | 'yaml'

/** A column: its heading, the cell of a row, and a shorter one for a table that is too wide. */
export type Column<Row> = readonly [heading: string, cell: (row: Row) => string, compact?: (row: Row) => string]

export function render(format: Exclude<Format, 'table'>, value: unknown): string {
  return format === 'json' ? `${JSON.stringify(value, null, 2)}\n` : stringify(value)
}

/** The text of a list that comes in pages, in parts; together they are what the whole list would be. */
export type ListWriter<Row> = {
  readonly page: (rows: readonly Row[]) => string
  readonly end: () => string
}

export function listWriter<Row>(format: Format, columns: readonly Column<Row>[], width?: number): ListWriter<Row> {
  switch (format) {
    case 'table':
      return tableWriter(columns, width)
    case 'json':
      return jsonWriter()
    case 'yaml': {
      let empty = true
      const page = (rows: readonly Row[]): string => {
        if (rows.length > 0) empty = false
        return rows.length === 0 ? '' : stringify(rows)
      }
      return { page, end: () => (empty ? stringify([]) : '') }
    }
  }
}

function jsonWriter<Row>(): ListWriter<Row> {
  let written = 0
  const page = (rows: readonly Row[]): string =>
    rows
      .map(row => {
        const text = JSON.stringify(row, null, 2).replaceAll('\n', '\n  ')
        return `${written++ === 0 ? '[' : ','}\n  ${text}`
      })
      .join('')
  return { page, end: () => (written === 0 ? '[]\n' : '\n]\n') }
}

/** A column that is too narrow for a later page becomes wider from there on; if the table is too wide then, it stays compact. */
function tableWriter<Row>(columns: readonly Column<Row>[], width = Infinity): ListWriter<Row> {
  let natural: readonly number[] | null = null
  let shown = columns
  const page = (rows: readonly Row[]): string => {
    if (rows.length === 0 && natural !== null) return ''
    const heading = natural === null ? [columns.map(([name]) => name)] : []
    let before = natural
    const lines = (): (readonly string[])[] => [...heading, ...cellsOf(shown, rows)]
    const widths = (cells: readonly (readonly string[])[]): readonly number[] =>
      columns.map((_, at) => cells.reduce((most, line) => Math.max(most, line[at]?.length ?? 0), before?.[at] ?? 0))
    let cells = lines()
    if (total(widths(cells)) > width) {
      shown = columns.map(([name, cell, compact]): Column<Row> => [name, compact ?? cell])
      before = before?.map((one, at) => (columns[at]?.[2] === undefined ? one : 0)) ?? null
      cells = lines()
    }
    natural = widths(cells)
    return laidOut(cells, fitted(natural, width))
  }
  return { page, end: () => '' }
}

/**
 * Columns as wide as their content, separated by two spaces.
 * @param width of the terminal, if any: the widest columns are truncated to fit it
 */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], width = Infinity): string {
  return tableWriter(columns, width).page(rows)
}

function cellsOf<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): readonly (readonly string[])[] {
  return rows.map(row => columns.map(([, cell]) => printable(cell(row))))
}

function laidOut(cells: readonly (readonly string[])[], widths: readonly number[]): string {
  return cells
    .map(
      line =>
        `${line
          .map((cell, at) => truncated(cell, widths[at] ?? 0).padEnd(widths[at] ?? 0))
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

/** Replaces characters by which foreign text could control the terminal: control, format (bidi) and separator characters. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?')
}

/** Shows lines that begin with `!` in red. */
export function highlighted(text: string): string {
  return text.replace(/^!.*$/gm, '\u001b[31m$&\u001b[39m')
}

/** A column is truncated no further than this, so that rows stay distinguishable. */
const MIN_WIDTH = 6

function fitted(natural: readonly number[], width: number): number[] {
  const widths = [...natural]
  for (let over = total(widths) - width; over > 0; over = total(widths) - width) {
    const widest = Math.max(...widths)
    if (widest <= MIN_WIDTH) break
    const next = Math.max(MIN_WIDTH, ...widths.filter(one => one < widest))
    const at = widths.indexOf(widest)
    widths[at] = Math.max(next === widest ? widest - 1 : next, widest - over, MIN_WIDTH)
  }
  return widths
}

/** Of a line of columns. */
function total(widths: readonly number[]): number {
  return widths.reduce((sum, one) => sum + one, 2 * (widths.length - 1))
}

function truncated(cell: string, width: number): string {
  return cell.length > width ? `${cell.slice(0, width - 1)}~` : cell
}
