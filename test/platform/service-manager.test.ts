import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '#platform/clock.ts'
import { ServiceManager } from '#platform/service-manager.ts'
import { scratch } from '#test/api/scratch.ts'
import { NotifySocket } from '#test/lab/notify-socket.ts'
import { waitFor } from '#test/lab/wait.ts'

t.test(
  'a service manager hears ready, reloading, signs of life and the end, by a path and by an abstract name',
  async t => {
    for (const address of [join(scratch(t), 'notify'), `@vxmesh-test-${process.pid}`]) {
      const socket = await NotifySocket.open(address)
      t.teardown(() => socket.close())
      const env = { NOTIFY_SOCKET: address, WATCHDOG_USEC: '60000', WATCHDOG_PID: `${process.pid}`, OTHER: 'stays' }
      const manager = ServiceManager.take(env, systemClock)
      t.same(env, { OTHER: 'stays' }, 'children are not the service')
      manager.ready()
      let alive = true
      manager.beat({ alive: () => alive, status: () => 'two\nlines' })
      const beats = (): number => socket.lines.filter(line => line === 'WATCHDOG=1').length
      await waitFor('signs of life go on', () => beats() >= 3)
      alive = false
      manager.reloading()
      manager.ready()
      await waitFor('all was heard', () => socket.lines.filter(line => line === 'READY=1').length === 2)
      const then = beats()
      manager.stopping()
      await waitFor('the end was heard', () => socket.lines.includes('STOPPING=1'))
      t.equal(beats(), then, 'none while the loop hangs')
      manager.close()
      const words = socket.lines.filter(line => line !== 'WATCHDOG=1' && !line.startsWith('MONOTONIC_USEC='))
      t.same(words, ['READY=1', 'STATUS=two lines', 'RELOADING=1', 'READY=1', 'STOPPING=1'])
      t.match(
        socket.lines.find(line => line.startsWith('MONOTONIC_USEC=')),
        /^MONOTONIC_USEC=[0-9]+$/
      )
      t.ok(socket.heard.every(({ pid }) => pid === process.pid))
    }
  }
)

t.test('what was not heard is said again when somebody listens', async t => {
  const address = join(scratch(t), 'notify')
  const manager = ServiceManager.take({ NOTIFY_SOCKET: address, WATCHDOG_USEC: '60000' }, systemClock)
  manager.ready()
  manager.beat({ alive: () => true, status: () => 'well' })
  const socket = await NotifySocket.open(address)
  t.teardown(() => socket.close())
  await waitFor('the words came', () => ['READY=1', 'STATUS=well'].every(line => socket.lines.includes(line)))
  manager.close()
})

t.test('without a service manager, or with a watchdog of another process, nothing is said', async t => {
  const manager = ServiceManager.take({}, systemClock)
  manager.ready()
  manager.beat({ alive: () => t.fail('nobody asks'), status: () => t.fail('nobody asks') as never })
  manager.close()
  const address = join(scratch(t), 'notify')
  const socket = await NotifySocket.open(address)
  t.teardown(() => socket.close())
  const other = ServiceManager.take({ NOTIFY_SOCKET: address, WATCHDOG_USEC: '60000', WATCHDOG_PID: '1' }, systemClock)
  other.beat({ alive: () => t.fail('nobody asks'), status: () => 'well' })
  await waitFor('the status came', () => socket.lines.includes('STATUS=well'))
  other.close()
  t.notOk(socket.lines.includes('WATCHDOG=1'))
})

t.test('an address that is none is refused by its name', t => {
  for (const address of ['', 'relative', '/', '@', `/${'x'.repeat(107)}`, '/a\0b', 'vsock:2:1']) {
    t.throws(() => ServiceManager.take({ NOTIFY_SOCKET: address }, systemClock), {
      code: 'ERR_CONFIG',
      field: 'NOTIFY_SOCKET'
    })
  }
  t.end()
})
