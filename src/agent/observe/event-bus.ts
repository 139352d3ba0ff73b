// Events to whoever listens, and the last of them to whoever comes too late. A listener must not throw and must not wait:
// it is called in the middle of the work.

import type { AgentEvent, UntimedEvent } from '#model/event.ts'

export type EventListener = (event: AgentEvent) => void

/** Events that are remembered; of some 300 bytes each, at most a kilobyte or two. */
export const REMEMBERED = 512

export class EventBus {
  readonly #listeners = new Set<EventListener>()
  /** A ring: the next one takes the place of the oldest. */
  readonly #remembered: AgentEvent[] = []
  #next = 0

  /** Calls back for every event from now on. Returns how to stop. */
  listen(listener: EventListener): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** The last events, the oldest first. */
  recent(): readonly AgentEvent[] {
    return [...this.#remembered.slice(this.#next), ...this.#remembered.slice(0, this.#next)]
  }

  /**
   * @param kind `past`: what happened long before, and is only read again: nobody is told later that it happened now, and
   * it is described only if somebody listens, for a log holds it by the hundred thousand
   */
  tell(describe: () => UntimedEvent | null, kind: 'new' | 'past' = 'new'): void {
    if (kind === 'past' && this.#listeners.size === 0) return
    const event = describe()
    if (event === null) return
    const timed = { time: new Date().toISOString(), ...event } as AgentEvent
    if (kind === 'new') {
      this.#remembered[this.#next] = timed
      this.#next = (this.#next + 1) % REMEMBERED
    }
    for (const listener of this.#listeners) listener(timed)
  }
}
