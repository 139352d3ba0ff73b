import t from 'tap'
import { MAX_IN_FLIGHT, ProposalWindow, WINDOW } from '#replication/consensus/proposal-window.ts'

class World {
  readonly window = new ProposalWindow({ nowMs: () => this.nowMs })
  readonly begun: number[] = []
  readonly refused: unknown[] = []
  nowMs = 0
  readonly #beganMs: number[] = []
  #next = 0

  enter(latestMs = Infinity): void {
    const n = this.#next++
    this.window.enter({
      latestMs,
      begin: beganMs => {
        this.begun.push(n)
        this.#beganMs.push(beganMs)
      },
      refuse: ({ code }) => this.refused.push(code === 'ERR_BUSY' ? n : code)
    })
  }

  /** The oldest that are under way are settled. */
  settle(count: number): void {
    for (const beganMs of this.#beganMs.splice(0, count)) this.window.leave(beganMs)
  }

  get underWay(): number {
    return this.#beganMs.length
  }
}

t.test('as many as the window holds begin at once, the others in turn', t => {
  const world = new World()
  for (let n = 0; n < WINDOW + 3; n++) world.enter()
  t.equal(world.begun.length, WINDOW)
  world.settle(2)
  t.same(world.begun.slice(WINDOW), [WINDOW, WINDOW + 1])
  t.same(world.refused, [])
  t.end()
})

t.test('one more than may be in flight is refused at once, and there is room again when one has left', t => {
  const world = new World()
  for (let n = 0; n < MAX_IN_FLIGHT; n++) world.enter()
  const oneMore = { latestMs: Infinity, begin: () => undefined, refuse: () => undefined }
  t.throws(() => world.window.enter(oneMore), { code: 'ERR_BUSY' })
  world.settle(1)
  world.enter()
  t.throws(() => world.window.enter(oneMore), { code: 'ERR_BUSY' })
  while (world.underWay > 0) world.settle(1)
  t.same(world.begun, [...Array(MAX_IN_FLIGHT + 1).keys()])
  t.end()
})

t.test('whose turn comes too late is refused, and does not keep the next one waiting', t => {
  const world = new World()
  for (let n = 0; n < WINDOW; n++) world.enter()
  world.enter(50)
  world.enter(50)
  world.enter(200)
  world.nowMs = 51
  world.settle(1)
  t.same(world.refused, [WINDOW, WINDOW + 1])
  t.same(world.begun.slice(WINDOW), [WINDOW + 2])
  world.enter(51)
  world.settle(1)
  t.same(world.begun.slice(WINDOW), [WINDOW + 2, WINDOW + 3], 'just in time')
  t.end()
})

t.test('one that settles as soon as it begins leaves its place to the next', t => {
  const world = new World()
  for (let n = 0; n < WINDOW; n++) world.enter()
  let settled = 0
  for (let n = 0; n < 100; n++) {
    const begin = (beganMs: number): void => {
      settled += 1
      world.window.leave(beganMs)
    }
    world.window.enter({ latestMs: Infinity, begin, refuse: () => t.fail('refused') })
  }
  world.settle(1)
  t.equal(settled, 100)
  t.end()
})

t.test('the slower they are answered the fewer are under way or wait, and as many as before once they are fast', t => {
  const world = new World()
  const sizes: number[] = []
  let most = 0
  const round = (ms: number): void => {
    for (most = world.underWay; ; most++) {
      try {
        world.enter()
      } catch {
        break
      }
    }
    sizes.push(world.underWay)
    while (world.underWay > 0) {
      world.nowMs += ms
      world.settle(world.underWay)
    }
  }
  for (let n = 0; n < 5; n++) round(600)
  t.equal(sizes[0], WINDOW)
  t.ok(
    sizes.every((size, n) => n === 0 || size <= (sizes[n - 1] ?? 0)),
    sizes.join()
  )
  t.same([sizes.at(-1), most], [16, 64], 'the least')
  for (let n = 0; n < 20; n++) round(5)
  t.same([sizes.at(-1), most], [WINDOW, MAX_IN_FLIGHT])
  t.end()
})
