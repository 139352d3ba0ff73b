// A benchmark's report: our figures, and those of a peer or of the kernel's own limit from the same run.

export type Figures = Readonly<Record<string, number>>

export type Report = {
  readonly ours: Figures
  /** Another program for the same job. */
  readonly peer?: Figures
  /** The best that the machine allows. */
  readonly limit?: Figures
  /** Other facts: counts, sizes, versions. */
  readonly facts?: Readonly<Record<string, unknown>>
}

/** Reports its progress on standard error. */
export type Benchmark = (args: readonly string[]) => Promise<Report>

/** Ours divided by theirs for every figure that both have; above 1 ours is larger, which for a time is worse. */
export function ratios({ ours, peer, limit }: Report): Figures {
  const theirs = peer ?? limit ?? {}
  const pairs = Object.entries(ours).flatMap(([name, value]) => {
    const other = theirs[name]
    return other === undefined || other === 0 ? [] : [[name, rounded(value / other)] as const]
  })
  return Object.fromEntries(pairs)
}

/** The value below which a share (0 to 1) of the samples lies; nearest rank. @throws Error without samples */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const value = sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))]
  if (value === undefined) throw new Error('a quantile of no samples')
  return value
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5)
}

/** Rounds to four significant digits, more than the precision of any figure. */
export function rounded(value: number): number {
  return Number(value.toPrecision(4))
}

export function say(text: string): void {
  process.stderr.write(`${text}\n`)
}
