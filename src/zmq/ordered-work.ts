// Orders requests: those for one container run one after another, one for a network runs alone, all others run
// concurrently. Bounded in number and in bytes.

export type Task = {
  /** Tasks with the same key run in order; a task with null is a barrier. */
  readonly key: string | null
  readonly bytes: number
  readonly run: () => Promise<void>
}

export class OrderedWork {
  readonly #maxTasks: number
  readonly #maxBytes: number
  /** The last pending task of each key. */
  readonly #tails = new Map<string, Promise<void>>()
  #barrier: Promise<void> = Promise.resolve()
  readonly #waiting: (() => void)[] = []
  #tasks = 0
  #bytes = 0

  constructor(bounds: { readonly maxTasks: number; readonly maxBytes: number }) {
    this.#maxTasks = bounds.maxTasks
    this.#maxBytes = bounds.maxBytes
  }

  /** Tasks that are queued or running. */
  get size(): number {
    return this.#tasks
  }

  /** Returns false, without taking the task, at the limit. A task must not reject. */
  add({ key, bytes, run }: Task): boolean {
    if (this.#tasks >= this.#maxTasks || this.#bytes + bytes > this.#maxBytes) return false
    this.#tasks += 1
    this.#bytes += bytes
    const before = key === null ? this.#all() : (this.#tails.get(key) ?? this.#barrier)
    const done = before.then(run).finally(() => {
      this.#tasks -= 1
      this.#bytes -= bytes
      for (const resume of this.#waiting.splice(0)) resume()
      if (key !== null && this.#tails.get(key) === done) this.#tails.delete(key)
    })
    if (key === null) {
      this.#tails.clear()
      this.#barrier = done
    } else {
      this.#tails.set(key, done)
    }
    return true
  }

  /** Resolves once the tasks that are queued or running take fewer bytes than this. */
  async below(bytes: number): Promise<void> {
    while (this.#bytes >= bytes) await new Promise<void>(resolve => this.#waiting.push(resolve))
  }

  /** Resolves once all tasks added so far have ended. */
  async settled(): Promise<void> {
    await this.#all()
  }

  #all(): Promise<void> {
    return Promise.all([this.#barrier, ...this.#tails.values()]).then(() => undefined)
  }
}
