// Prints one line for each check, a claim and a measurement, and counts them in the last line.

export class Checks {
  passed = 0
  failed = 0

  /** @param measure returns the measurement as text; its error is the reason of the failure */
  async check(claim: string, measure: () => Promise<string>): Promise<boolean> {
    const since = performance.now()
    try {
      const measured = await measure()
      this.passed += 1
      console.log(`ok    ${claim}${measured === '' ? '' : ` (${measured})`}`)
      return true
    } catch (err) {
      this.failed += 1
      const why = err instanceof Error ? err.message : String(err)
      console.log(`FAIL  ${claim} [after ${Math.round(performance.now() - since)} ms]: ${why}`)
      return false
    }
  }

  summary(): string {
    return `${this.passed} passed, ${this.failed} failed`
  }
}

export function expect(condition: boolean, why: string): void {
  if (!condition) throw new Error(why)
}

/** The value at a share of the sorted list; 0.5 is the median. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN
}

export const ms = (value: number): string => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`
