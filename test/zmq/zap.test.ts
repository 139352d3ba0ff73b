import t from 'tap'
import { systemClock as clock } from '#platform/clock.ts'
import { ZapHandler } from '#zmq/zap.ts'

const open = (): ZapHandler => new ZapHandler({ allowedKeys: null, onAdmit: () => undefined })

t.test('the address is free as soon as a handler is closed, so that the next one starts', async t => {
  for (let n = 0; n < 50; n++) {
    const handler = open()
    await t.resolves(handler.start(clock))
    handler.close()
  }
})

t.test('a handler is closed that could not start, and one that is closed already', async t => {
  const first = open()
  const second = open()
  await first.start(clock)
  await t.rejects(second.start(clock), { code: 'EADDRINUSE' })
  second.close()
  first.close()
  first.close()
})
