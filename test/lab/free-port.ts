// A free port of loopback below the kernel's ephemeral range, from which a connection of another test could take it before
// it is bound. Test files run side by side, and on a loaded machine seconds pass between the choice and the bind: every process
// walks through a block of its own, chosen by its id, so that two of them do not choose the same port in that time.

import { createServer } from 'node:net'

const FIRST = 10_000
const BLOCK = 100
const BLOCKS = 220

const start = FIRST + (process.pid % BLOCKS) * BLOCK
let next = 0

export async function freePort(): Promise<number> {
  for (let tries = 0; tries < BLOCK; tries++) {
    const port = start + next
    next = (next + 1) % BLOCK
    if (await isFree(port)) return port
  }
  throw new Error(`no free port between ${start} and ${start + BLOCK - 1}`)
}

function isFree(port: number): Promise<boolean> {
  const server = createServer()
  return new Promise(resolve => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
