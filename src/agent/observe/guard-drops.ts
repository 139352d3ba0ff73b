// Packets that the guard's programs have dropped, sampled from their counters: a scrape then costs no system call.

export type GuardDrops = {
  /** By reason; null when the programs do not run, or before the first sample. */
  readonly latest: Readonly<Record<string, number>> | null
}

export class GuardDropCounters implements GuardDrops {
  latest: GuardDrops['latest'] = null
  readonly #read: () => GuardDrops['latest']

  /** @param read throws ERR_KERNEL */
  constructor(read: () => GuardDrops['latest']) {
    this.#read = read
  }

  /** @throws ERR_KERNEL */
  sample(): void {
    this.latest = this.#read()
  }
}
