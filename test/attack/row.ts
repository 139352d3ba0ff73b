// One row of the attack table: a control, which shows that the attack would be seen, then the attack. Pure.

/** What a control or an attack came to, and whether it is as it should be. */
export type Finding = { readonly ok: boolean; readonly figure: string }

export type Outcome = { readonly control: Finding; readonly attack: Finding }

export type Row<World> = {
  readonly name: string
  readonly run: (world: World) => Promise<Outcome>
}

export type Verdict = 'held' | 'BROKE' | 'NO CONTROL' | 'FAILED'

export type Line = {
  readonly attack: string
  readonly control: string
  readonly figure: string
  readonly verdict: Verdict
}

export function lineOf(name: string, { control, attack }: Outcome): Line {
  const verdict = !control.ok ? 'NO CONTROL' : attack.ok ? 'held' : 'BROKE'
  return { attack: name, control: control.figure, figure: attack.figure, verdict }
}

/** A row that could not be run to its end. */
export function failedLine(name: string, error: unknown): Line {
  const [first = ''] = (error instanceof Error ? error.message : String(error)).split('\n')
  return { attack: name, control: '', figure: first, verdict: 'FAILED' }
}

/** The table in columns, and the counts in the last line. */
export function formatTable(lines: readonly Line[]): string {
  const rows = [
    ['attack', 'control', 'figure', 'verdict'],
    ...lines.map(({ attack, control, figure, verdict }) => [attack, control, figure, verdict])
  ]
  const widths = [0, 1, 2].map(i => Math.max(...rows.map(row => row[i]?.length ?? 0)))
  const text = rows.map(row =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join(' | ')
      .trimEnd()
  )
  const failed = lines.filter(({ verdict }) => verdict !== 'held').length
  return [...text, `${lines.length - failed} passed, ${failed} failed`].join('\n')
}
