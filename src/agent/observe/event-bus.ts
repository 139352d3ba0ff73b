// Publishes events to listeners, and keeps the most recent ones for later listeners. A listener is called synchronously in
// the middle of applying entries: it must neither throw nor block.

import type { AgentEvent, UntimedEvent } from '#model/event.ts'

export type EventListener = (event: AgentEvent) => void

/** Recent events kept; about 300 bytes each, two kilobytes at most. */
export const MAX_RECENT = 512

export class EventBus {
  readonly #listeners = new Set<EventListener>()
  /** A ring buffer: the next event overwrites the oldest. */
  readonly #recent: AgentEvent[] = []
  #next = 0
  readonly #wallMs: () => number

  /** @param options.wallMs milliseconds since 1970, for the time of each event */
  constructor(options: { readonly wallMs: () => number }) {
    this.#wallMs = options.wallMs
  }

  /** Calls the listener for every event from now on. @returns a function that unsubscribes it */
  listen(listener: EventListener): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** The most recent events, oldest first. */
  recent(): readonly AgentEvent[] {
    return [...this.#recent.slice(this.#next), ...this.#recent.slice(0, this.#next)]
  }

  /** The event with the current time. */
  stamp(event: UntimedEvent): AgentEvent {
    return { time: new Date(this.#wallMs()).toISOString(), ...event }
  }

  /**
   * @param describe returns null for a change that is no event
   * @param kind `past`: replayed from the log at start. It is not kept as recent, and is described only while there are
   * listeners, because a log holds hundreds of thousands of entries
   */
  publish(describe: () => UntimedEvent | null, kind: 'new' | 'past' = 'new'): void {
    if (kind === 'past' && this.#listeners.size === 0) return
    const event = describe()
    if (event === null) return
    const timed = this.stamp(event)
    if (kind === 'new') {
      this.#recent[this.#next] = timed
      this.#next = (this.#next + 1) % MAX_RECENT
    }
    for (const listener of this.#listeners) listener(timed)
  }
}
