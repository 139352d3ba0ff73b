// Waiting for a condition with a bound: tests never just sleep.

export async function waitFor<T>(
  what: string,
  condition: () => Promise<T | false | null | undefined> | T | false | null | undefined,
  options: { readonly timeoutMs?: number; readonly everyMs?: number; readonly explain?: () => string } = {}
): Promise<T> {
  const { timeoutMs = 10_000, everyMs = 25 } = options
  const until = performance.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const value = await condition()
      if (value !== false && value !== null && value !== undefined) return value
      last = undefined
    } catch (err) {
      last = err
    }
    if (performance.now() > until) {
      const why = last instanceof Error ? `: ${last.message}` : ''
      throw new Error(
        `not within ${timeoutMs} ms: ${what}${why}${options.explain === undefined ? '' : `\n${options.explain()}`}`
      )
    }
    await new Promise(resolve => setTimeout(resolve, everyMs))
  }
}
