// Waits until the process that made a lab is gone (its end of the pipe on standard input closes), then removes the lab, so
// that a test that crashes or is killed leaves nothing behind.

import { teardown } from './teardown.ts'

const id = process.argv[2]
if (id === undefined) throw new Error('usage: reaper.ts LAB-ID')
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
process.stdin.on('end', () => void teardown(id).then(() => process.exit(0)))
process.stdin.resume()
