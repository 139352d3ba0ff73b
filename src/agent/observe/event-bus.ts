// Publishes events to listeners, and keeps the most recent ones for later listeners. An event is described when somebody
// reads it: most hosts have no listener, and describing costs as much as applying the entry. A listener is called
// synchronously in the middle of applying entries: it must neither throw nor block.

import type { AgentEvent, UntimedEvent } from '#model/event.ts'

export type EventListener = (event: AgentEvent) => void

/** Describes a change later; it must have looked up what may change by then. */
export type Description = () => UntimedEvent

/** Recent events kept, with the rows in them; about 500 bytes each, a few kilobytes at most. */
export const MAX_RECENT = 512

type Recent = { readonly atMs: number; readonly describe: Description }

export class EventBus {
  readonly #listeners = new Set<EventListener>()
  /** A ring buffer: the next event overwrites the oldest. */
  readonly #recent: Recent[] = []
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
    const recent = [...this.#recent.slice(this.#next), ...this.#recent.slice(0, this.#next)]
    return recent.map(({ atMs, describe }) => stamped(describe(), atMs))
  }

  /** The event with the current time. */
  stamp(event: UntimedEvent): AgentEvent {
    return stamped(event, this.#wallMs())
  }

  /**
   * @param describe null for a change that is no event
   * @param kind `past`: replayed from the log at start, and not kept as recent
   */
  publish(describe: Description | null, kind: 'new' | 'past' = 'new'): void {
    if (describe === null) return
    const listened = this.#listeners.size > 0
    if (kind === 'past' && !listened) return
    const atMs = this.#wallMs()
    if (kind === 'new') {
      this.#recent[this.#next] = { atMs, describe }
      this.#next = (this.#next + 1) % MAX_RECENT
    }
    if (!listened) return
    const event = stamped(describe(), atMs)
    for (const listener of this.#listeners) listener(event)
  }
}

function stamped(event: UntimedEvent, atMs: number): AgentEvent {
  return { time: new Date(atMs).toISOString(), ...event }
}
