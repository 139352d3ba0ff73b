// Outlives the process that made labs: once that process is gone (its end of the pipe on standard input closes), it removes
// every lab whose id it was given, one a line, so that a test that crashes or is killed leaves nothing behind.

import { text } from 'node:stream/consumers'
import { teardown } from './teardown.ts'

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
const ids = (await text(process.stdin)).split('\n').filter(id => id !== '')
for (const id of ids) await teardown(id)
