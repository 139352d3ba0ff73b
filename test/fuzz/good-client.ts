// A well-behaved client that sends valid requests continuously and measures their latency.

import { request } from 'node:http'

const PAUSE_MS = 5

/** Sends one request to the API. @returns its latency in ms. @throws Error unless it succeeds */
function ask(socketPath: string): Promise<number> {
  const since = performance.now()
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path: '/v1/endpoints' }, answer => {
      answer.resume().on('end', () => {
        if (answer.statusCode === 200) resolve(performance.now() - since)
        else reject(new Error(`the good client got ${answer.statusCode}`))
      })
    })
    call.on('error', reject)
    call.end()
  })
}

/** Sends requests until `over`. @returns the latencies in ms, sorted */
export async function askUntil(socketPath: string, done: () => boolean): Promise<number[]> {
  const waits: number[] = []
  while (!done()) {
    waits.push(await ask(socketPath))
    await new Promise(resolve => setTimeout(resolve, PAUSE_MS))
  }
  return waits.sort((a, b) => a - b)
}

/** The quantile of sorted values: `share` of them lie below it. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.floor(sorted.length * share)] ?? Number.NaN
}
