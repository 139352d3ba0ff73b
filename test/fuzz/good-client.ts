// A client that asks properly, all the time, and how long it waits for its answers.

import { request } from 'node:http'

const PAUSE_MS = 5

/** One question to the API; milliseconds until its answer is there. @throws when the answer is no good one */
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

/** Asks until told otherwise. @returns the waits in ms, the shortest first */
export async function askUntil(socketPath: string, done: () => boolean): Promise<number[]> {
  const waits: number[] = []
  while (!done()) {
    waits.push(await ask(socketPath))
    await new Promise(resolve => setTimeout(resolve, PAUSE_MS))
  }
  return waits.sort((a, b) => a - b)
}

/** The wait that so large a share of all stays below. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.floor(sorted.length * share)] ?? Number.NaN
}
