// GET /v1/events: one JSON object per line as events happen, until the caller disconnects. A caller that does not read is
// disconnected at a limit: it can read the state again.

import { Readable } from 'node:stream'
import type { AgentEvent } from '#model/event.ts'
import type { Clock } from '#platform/clock.ts'

/** Most bytes that are buffered for a caller. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024
/** Interval of heartbeats (empty lines), by which both ends notice a dead connection. */
const HEARTBEAT_MS = 15_000

/** @param listen subscribes a listener and returns the function that unsubscribes it */
export function eventStream(p: {
  readonly listen: (listener: (event: AgentEvent) => void) => () => void
  readonly clock: Clock
}): Readable {
  const stream = new Readable({
    read: () => undefined,
    destroy: (err, done) => {
      stop()
      stopHeartbeat()
      done(err)
    }
  })
  const write = (line: string): void => {
    if (stream.readableLength > MAX_BUFFERED_BYTES) stream.destroy()
    else stream.push(line)
  }
  const stopHeartbeat = p.clock.every(HEARTBEAT_MS, () => write('\n'))
  const stop = p.listen(event => write(`${JSON.stringify(event)}\n`))
  return stream
}
