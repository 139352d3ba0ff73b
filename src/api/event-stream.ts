// GET /v1/events: one JSON object a line, as things happen, until the caller goes away. A caller that does not read is
// dropped at a bound: the state is there to be read again.

import { Readable } from 'node:stream'
import type { AgentEvent } from '#model/event.ts'

/** Bytes that may wait for a caller. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024
/** A line of its own when nothing happens, so that both ends notice a dead connection. */
const QUIET_MS = 15_000

/** @param listen subscribes a listener and returns how to end that */
export function eventStream(listen: (listener: (event: AgentEvent) => void) => () => void): Readable {
  const stream = new Readable({
    read: () => undefined,
    destroy: (err, done) => {
      stop()
      clearInterval(quiet)
      done(err)
    }
  })
  const write = (line: string): void => {
    if (stream.readableLength > MAX_WAITING_BYTES) stream.destroy()
    else stream.push(line)
  }
  const quiet = setInterval(() => write('\n'), QUIET_MS)
  const stop = listen(event => write(`${JSON.stringify(event)}\n`))
  return stream
}
