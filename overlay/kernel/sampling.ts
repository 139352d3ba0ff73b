// Which devices a pass over the whole host reads one by one, where there is no dump: all, unless another program's changes are
// notified; then one in eight, by turns, in case that a notification was lost. Pure.

const TURNS = 8

export class Sampling {
  #notified = false
  #doubted = true
  #turn = 0
  #whole = true

  /** Begins a pass over the whole host. */
  next(): void {
    this.#whole = !this.#notified || this.#doubted
    this.#doubted = false
    this.#turn = (this.#turn + 1) % TURNS
  }

  /** Is this device to be read in the pass? */
  has(ifindex: number): boolean {
    return this.#whole || ifindex % TURNS === this.#turn
  }

  /** Are changes notified from now on? What was before is doubtful. */
  set notified(on: boolean) {
    this.#notified = on
    this.#doubted = true
  }

  /** Notifications may have been lost: the next pass reads all. */
  doubt(): void {
    this.#doubted = true
  }
}
