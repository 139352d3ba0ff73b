// Events to whoever listens. A listener must not throw and must not wait: it is called in the middle of the work.

import type { AgentEvent, UntimedEvent } from '#model/event.ts'

export type EventListener = (event: AgentEvent) => void

export class EventBus {
  readonly #listeners = new Set<EventListener>()

  /** Calls back for every event from now on. Returns how to stop. */
  listen(listener: EventListener): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Describes the event only if somebody listens: nobody does most of the time, and entries come by the thousand. */
  tell(describe: () => UntimedEvent | null): void {
    if (this.#listeners.size === 0) return
    const event = describe()
    if (event === null) return
    const timed = { time: new Date().toISOString(), ...event } as AgentEvent
    for (const listener of this.#listeners) listener(timed)
  }
}
