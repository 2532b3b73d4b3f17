import 'fake-indexeddb/auto'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { QueueStore } from 'workbox-background-sync'
import type { ApiCall, ApiPart, ConnectedWorker } from '../../sw/offline/api-part.js'
import type { TokenQueueOptions } from '../../sw/offline/queue-options.js'
import { tokenQueue } from '../../sw/offline/token-queue.js'

type WorkerEvent = Parameters<ApiPart['answer']>[1]

// Workbox looks for it as it is loaded.
vi.hoisted(() => vi.stubGlobal('self', globalThis))

const api = 'https://api.example/notes'
let count = 0

const createWorld = (options: TokenQueueOptions = {}) => {
  const scope = `https://app.example/${count++}/`
  const listeners: ((event: object) => void)[] = []
  const registered: string[] = []
  const sync = { register: async (tag: string) => void registered.push(tag) }
  vi.stubGlobal('self', {
    registration: { sync },
    addEventListener: (_type: 'sync', listener: (event: object) => void) =>
      listeners.push(listener),
  })
  const state = {
    user: 'alice' as string | undefined,
    lastSignOut: 'before' as string | undefined,
    now: 1_000_000,
    isApi: true,
    answer: (async () => new Response('ok')) as (body: string) => Promise<Response>,
    isRefused: false,
    isCancelled: false,
  }
  const waits: { ms: number; end: () => void }[] = []
  const sent: string[] = []
  const send = async (request: Request, owner: string | undefined): Promise<Response> => {
    if (owner !== undefined && owner !== state.user) return Response.error()
    const body = await request.text()
    sent.push(body)
    return await state.answer(body)
  }
  const door: ConnectedWorker = {
    scope,
    begin: (request) =>
      state.isApi
        ? ({
            send: async (owner) => ({
              response: await send(request, owner),
              isRefused: state.isRefused,
            }),
          } as ApiCall)
        : undefined,
    present: async () => ({ user: state.user, lastSignOut: state.lastSignOut }),
    name: 'tokenward issuer client',
    signalOf: () => (state.isCancelled ? AbortSignal.abort() : undefined),
    platform: {
      lock: (_name, _signal, work) => work(),
      now: () => state.now,
      wait: (ms, signal) =>
        new Promise((end, stop) => {
          waits.push({ ms, end })
          signal?.addEventListener('abort', stop)
        }),
    },
  }
  const news: string[] = []
  const queue = tokenQueue('notes', {
    replayed: async ({ request, response }) =>
      void news.push(`replayed ${await request.text()} ${response.status}`),
    dropped: async ({ request, reason }) =>
      void news.push(`dropped ${await request.text()} ${reason}`),
    ...options,
  })
  queue.connect(door)
  const background: Promise<unknown>[] = []
  const event = { waitUntil: (work: Promise<unknown>) => background.push(work) }
  const tag = `tokenward issuer client ${scope} notes`
  const store = new QueueStore(tag)
  return {
    state,
    door,
    waits,
    sent,
    news,
    queue,
    registered,
    store,
    /** The session record says that the user has signed out, whoever has done it. */
    signOut: () => {
      Object.assign(state, { user: undefined, lastSignOut: `sign-out ${count++}` })
    },
    /** From now on the API does not answer, until the network is said to be gone. */
    hang: () => {
      let fail = (_: Error) => {}
      state.answer = () =>
        new Promise((_resolve, reject) => {
          fail = reject
        })
      return (error: Error) => fail(error)
    },
    whenQuiet: () => Promise.all(background),
    write: (body: string, init: RequestInit = {}) =>
      queue.answer(
        new Request(api, { method: 'POST', body, ...init }),
        event as unknown as WorkerEvent,
      ),
    /** The browser's event; says whether it has to come again. */
    sync: async (name = tag) => {
      let isDone = true
      const works: Promise<unknown>[] = []
      for (const listener of listeners) {
        listener({ tag: name, waitUntil: (work: Promise<unknown>) => works.push(work) })
      }
      await Promise.all(works).catch(() => {
        isDone = false
      })
      return works.length > 0 && isDone
    },
  }
}

const offline = async () => {
  throw new TypeError('Failed to fetch')
}

const refused = (status: number) => async () => new Response(null, { status })

beforeEach(() => vi.stubGlobal('reportError', vi.fn()))
afterEach(() => vi.unstubAllGlobals())

describe('a write', () => {
  test('is sent at once, and its answer is the answer of the API', async () => {
    const { write, store, state } = createWorld()
    state.answer = refused(503)
    expect((await write('1'))?.status).toBe(503)
    expect(await store.size()).toBe(0)
  })

  test('is none if its method is not listed', () => {
    const { queue } = createWorld({ methods: ['PUT'] })
    const event = {} as WorkerEvent
    for (const method of ['GET', 'HEAD', 'POST']) {
      expect(queue.answer(new Request(api, { method }), event), method).toBeUndefined()
    }
  })

  test('waits for the one before it, so that the order stays', async () => {
    const { write, sent, state, store, hang } = createWorld()
    const fail = hang()
    const first = write('1')
    await vi.waitFor(() => expect(sent).toEqual(['1']))
    const second = write('2')
    state.answer = async () => new Response('ok')
    fail(new TypeError('Failed to fetch'))
    const statuses = [(await first)?.status, (await second)?.status]
    expect(statuses).toEqual([202, 202])
    // Kept, and sent behind the answer.
    await vi.waitFor(() => expect(sent).toEqual(['1', '1', '2']))
    await vi.waitFor(async () => expect(await store.size()).toBe(0))
  })

  test('is kept where there is no token to be had, and the browser is asked for an event', async () => {
    const { write, registered, store, state } = createWorld()
    state.answer = async () => Response.error()
    const response = await write('1')
    expect(response?.status).toBe(202)
    expect(response?.headers.get('x-tokenward')).toBe('queued')
    expect(registered).toEqual([expect.stringContaining('notes')])
    expect(await store.size()).toBe(1)
  })

  test('goes out bare where nobody is signed in, and is never kept', async () => {
    const { write, store, state } = createWorld()
    Object.assign(state, { user: undefined, answer: refused(401) })
    expect((await write('1'))?.status).toBe(401)
    state.answer = offline
    await expect(write('2')).rejects.toThrow(TypeError)
    expect(await store.size()).toBe(0)
  })

  test('is not kept once the page has given it up, or its user has signed out', async () => {
    const { write, store, state } = createWorld()
    state.answer = offline
    expect((await write('1', { signal: AbortSignal.abort() }))?.type).toBe('error')
    state.answer = async () => {
      throw new DOMException('cancelled', 'AbortError')
    }
    await expect(write('3')).rejects.toThrow('cancelled')
    state.answer = async () => {
      state.user = undefined
      throw new TypeError('Failed to fetch')
    }
    expect((await write('2'))?.type).toBe('error')
    // Out, and in again.
    state.user = 'alice'
    state.answer = async () => {
      state.lastSignOut = 'meanwhile'
      throw new TypeError('Failed to fetch')
    }
    expect((await write('4'))?.type).toBe('error')
    expect(await store.size()).toBe(0)
  })

  test('fails like without network where the browser cannot keep it', async () => {
    const { write, state } = createWorld()
    state.answer = offline
    const push = vi.spyOn(QueueStore.prototype, 'pushEntry')
    push.mockRejectedValue(new DOMException('full', 'QuotaExceededError'))
    await expect(write('1')).rejects.toThrow('full')
    push.mockRestore()
    // The next one is not held up by it.
    expect((await write('2'))?.status).toBe(202)
  })
})

describe('a write that the page has cancelled', () => {
  test('while it waited is not kept, nor behind what waits (IN-14)', async () => {
    const { write, store, state } = createWorld()
    state.answer = offline
    await write('1')
    state.isCancelled = true
    expect((await write('2'))?.type).toBe('error')
    expect(await store.size()).toBe(1)
  })

  test('by name, and was not cancelled, is kept without the name and without keepalive', async () => {
    const { queue, store, state } = createWorld()
    state.answer = offline
    const init = { method: 'POST', body: '1', keepalive: true }
    const request = new Request(`${api}?a=b#tokenward-cancel=id`, init)
    await queue.answer(request, { waitUntil: () => {} } as unknown as WorkerEvent)
    const [entry] = await store.getAll()
    expect(entry?.requestData).toMatchObject({ url: `${api}?a=b`, keepalive: false })
  })
})

describe('a write behind one that hangs', () => {
  test('is written down after 5 s, and stays behind it (OF-05)', async () => {
    const { write, sent, state, store, waits, sync, hang } = createWorld()
    const fail = hang()
    const first = write('1')
    await vi.waitFor(() => expect(sent).toEqual(['1']))
    const second = write('2')
    await vi.waitFor(() => expect(waits.some(({ ms }) => ms === 5_000)).toBe(true))
    for (const { ms, end } of waits) if (ms === 5_000) end()
    expect((await second)?.status).toBe(202)
    expect(await store.size()).toBe(1)
    state.answer = async () => new Response('ok')
    fail(new TypeError('Failed to fetch'))
    expect((await first)?.status).toBe(202)
    await sync()
    expect(sent).toEqual(['1', '1', '2'])
  })
})

describe('the database of Workbox', () => {
  test('is opened again where the browser has closed it', async () => {
    const { write, state, store, sent } = createWorld()
    state.answer = offline
    await write('1')
    const size = vi.spyOn(QueueStore.prototype, 'size')
    size.mockRejectedValueOnce(new DOMException('closed', 'InvalidStateError'))
    state.answer = async () => new Response('ok')
    expect((await write('2'))?.status).toBe(202)
    size.mockRestore()
    await vi.waitFor(() => expect(sent).toEqual(['1', '1', '2']))
    await vi.waitFor(async () => expect(await store.size()).toBe(0))
  })

  test('that a page blocks keeps no write from the API for longer than 6 s', async () => {
    const { write, sent, waits } = createWorld()
    const size = vi.spyOn(QueueStore.prototype, 'size')
    size.mockReturnValue(new Promise(() => {}))
    const answer = write('1')
    await vi.waitFor(() => expect(waits.some(({ ms }) => ms === 6_000)).toBe(true))
    expect(sent).toEqual([])
    for (const { ms, end } of waits) if (ms === 6_000) end()
    expect((await answer)?.status).toBe(200)
    size.mockRestore()
  })

  test('that fails altogether keeps no write from the API', async () => {
    const { write, sent } = createWorld()
    const size = vi.spyOn(QueueStore.prototype, 'size')
    size.mockRejectedValue(new DOMException('broken', 'UnknownError'))
    expect((await write('1'))?.status).toBe(200)
    size.mockRestore()
    expect(sent).toEqual(['1'])
  })
})

describe('what is kept', () => {
  const keep = async (world: ReturnType<typeof createWorld>, ...bodies: string[]) => {
    const { answer } = world.state
    world.state.answer = offline
    for (const body of bodies) expect((await world.write(body))?.status).toBe(202)
    await world.whenQuiet()
    world.state.answer = answer
    world.sent.length = 0
  }

  test('is sent in order, and each is told with its answer (OF-05)', async () => {
    const world = createWorld()
    await keep(world, '1', '2', '3')
    expect(await world.sync()).toBe(true)
    expect(world.sent).toEqual(['1', '2', '3'])
    expect(world.news).toEqual(['1', '2', '3'].map((body) => `replayed ${body} 200`))
    expect(await world.store.size()).toBe(0)
  })

  test('stays, with all behind it, while its answer says later', async () => {
    const world = createWorld()
    await keep(world, '1', '2')
    for (const status of [401, 408, 425, 429, 500, 503]) {
      world.state.answer = refused(status)
      expect(await world.sync(), `${status}`).toBe(false)
    }
    world.state.answer = offline
    expect(await world.sync()).toBe(false)
    expect(new Set(world.sent)).toEqual(new Set(['1']))
    expect(await world.store.size()).toBe(2)
    // A no is an answer: the app hears of it, and what is behind it goes on.
    world.state.answer = refused(409)
    expect(await world.sync()).toBe(true)
    expect(world.news).toEqual(['replayed 1 409', 'replayed 2 409'])
  })

  test('is sent once, however many say that it is time', async () => {
    const world = createWorld()
    await keep(world, '1', '2')
    await Promise.all([world.sync(), world.queue.resume(), world.sync(), world.queue.resume()])
    expect(world.sent).toEqual(['1', '2'])
  })

  test('is dropped when it is too old, also while nobody is signed in', async () => {
    const world = createWorld({ maxAge: 60 })
    await keep(world, '1')
    world.state.now += 60_000
    await keep(world, '2')
    world.state.now += 1
    world.state.user = undefined
    expect(await world.sync()).toBe(false)
    expect(world.news).toEqual(['dropped 1 expired'])
    expect(world.sent).toEqual([])
  })

  test('waits for its user, and is dropped when somebody else comes (SE-07, OF-07)', async () => {
    const world = createWorld()
    await keep(world, '1')
    world.state.user = undefined
    await world.queue.forget()
    expect(await world.sync()).toBe(false)
    world.state.user = 'bob'
    expect(await world.sync()).toBe(true)
    expect(world.news).toEqual(['dropped 1 user_changed'])
    expect(world.sent).toEqual([])
  })

  test('is dropped when its user signs out (SE-01)', async () => {
    const world = createWorld()
    await keep(world, '1', '2')
    world.signOut()
    await world.queue.forget()
    expect(world.news).toEqual(['dropped 1 logout', 'dropped 2 logout'])
    expect(await world.store.size()).toBe(0)
  })

  test('is never sent after a sign-out that nobody told this worker of (SE-01)', async () => {
    for (const next of ['alice', 'bob', undefined]) {
      const world = createWorld()
      await keep(world, '1')
      world.signOut()
      world.state.user = next
      expect(await world.sync()).toBe(true)
      expect(world.sent).toEqual([])
      expect(world.news).toEqual([`dropped 1 ${next === 'bob' ? 'user_changed' : 'logout'}`])
    }
  })

  test('is dropped at the start after a sign-out, and what is newer waits on (SE-01)', async () => {
    const world = createWorld()
    await keep(world, '1')
    world.signOut()
    world.state.user = 'alice'
    const { lastSignOut } = world.state
    const metadata = { user: 'alice', at: world.state.now, lastSignOut }
    const requestData = { url: api, headers: {}, method: 'POST' }
    await world.store.pushEntry({ requestData, timestamp: 0, metadata })
    await world.queue.forget()
    expect(world.sent).toEqual([])
    expect(world.news).toEqual(['dropped 1 logout'])
    expect(await world.store.size()).toBe(1)
  })

  test('by a version that knew of no sign-outs is sent until there is one', async () => {
    const world = createWorld()
    world.state.lastSignOut = undefined
    const metadata = { user: 'alice', at: world.state.now }
    const requestData = { url: api, headers: {}, method: 'POST', body: new ArrayBuffer(1) }
    await world.store.pushEntry({ requestData, timestamp: 0, metadata })
    expect(await world.sync()).toBe(true)
    expect(world.sent).toHaveLength(1)
    await world.store.pushEntry({ requestData, timestamp: 0, metadata })
    world.signOut()
    world.state.user = 'alice'
    expect(await world.sync()).toBe(true)
    expect(world.sent).toHaveLength(1)
  })

  test('is dropped where its URL is of no API any more', async () => {
    const world = createWorld()
    await keep(world, '1')
    world.state.isApi = false
    expect(await world.sync()).toBe(true)
    expect(world.news).toEqual(['dropped 1 no_api'])
  })

  test('may have been written by any script: what is no entry does not stop the others', async () => {
    const world = createWorld()
    const requestData = { url: api, headers: {}, method: 'POST' }
    await world.store.pushEntry({ requestData, timestamp: 0 })
    const metadata = { user: 'alice', at: world.state.now }
    const junk = { url: 'no URL', headers: {} }
    await world.store.pushEntry({ requestData: junk, timestamp: 0, metadata })
    await world.store.pushEntry({ requestData: junk, timestamp: 0 })
    await keep(world, '1')
    expect(await world.sync()).toBe(true)
    expect(world.sent).toEqual(['1'])
    expect(await world.store.size()).toBe(0)
  })

  test('goes when the app has noted its news, since the worker may be stopped before', async () => {
    const left: number[] = []
    const note = async () => {
      // Writing it down takes a while.
      await new Promise((resolve) => setTimeout(resolve))
      left.push(await world.store.size())
    }
    const world = createWorld({ replayed: note, dropped: note })
    await keep(world, '1', '2')
    expect(await world.sync()).toBe(true)
    expect(left).toEqual([2, 1])
    await keep(world, '3')
    world.signOut()
    await world.queue.forget()
    expect(left).toEqual([2, 1, 1])
    expect(await world.store.size()).toBe(0)
  })

  test('is told when it was tried in vain, and goes when the app says so', async () => {
    const failed = vi.fn<NonNullable<TokenQueueOptions['failed']>>(() => undefined)
    const world = createWorld({ failed })
    await keep(world, '1', '2')
    failed.mockClear()
    world.state.answer = async (body) => {
      if (body === '1') throw new TypeError('CORS')
      return new Response('ok')
    }
    expect(await world.sync()).toBe(false)
    world.state.answer = async (body) => new Response(null, { status: body === '1' ? 500 : 200 })
    expect(await world.sync()).toBe(false)
    const calls = failed.mock.calls.map(([{ tries, response }]) => [tries, response?.status])
    // The first one was when the second was written.
    expect(calls).toEqual([
      [2, undefined],
      [3, 500],
    ])
    failed.mockReturnValue('drop')
    expect(await world.sync()).toBe(true)
    expect(world.news).toEqual(['dropped 1 failed', 'replayed 2 200'])
  })

  test('stays where the API refuses the token by a 200 (expired)', async () => {
    const world = createWorld()
    await keep(world, '1')
    world.state.isRefused = true
    expect(await world.sync()).toBe(false)
    world.state.isRefused = false
    expect(await world.sync()).toBe(true)
    expect(world.news).toEqual(['replayed 1 200'])
  })

  test('is not sent after a sign-out that came while it was (SE-01, SE-07)', async () => {
    const world = createWorld()
    await keep(world, '1', '2', '3')
    let answer = (_: Response) => {}
    world.state.answer = () =>
      new Promise((resolve) => {
        answer = resolve
      })
    const draining = world.sync()
    await vi.waitFor(() => expect(world.sent).toEqual(['1']))
    world.signOut()
    await world.queue.forget()
    // The same user is back at once.
    world.state.user = 'alice'
    answer(new Response('ok'))
    expect(await draining).toBe(true)
    expect(world.sent).toEqual(['1'])
    expect(world.news.filter((news) => news.startsWith('dropped'))).toHaveLength(3)
  })

  test('is seen also if it came at the end of a round', async () => {
    const world = createWorld()
    const locked = world.door.platform.lock
    // A lock takes a moment to be released.
    world.door.platform.lock = async (name, signal, work) => {
      const result = await locked(name, signal, work)
      await new Promise((resolve) => setTimeout(resolve, 8))
      return result
    }
    await keep(world, '1')
    const round = world.sync()
    await vi.waitFor(async () => expect(await world.store.size()).toBe(0))
    await keep(world, '2')
    await round
    await world.queue.resume()
    expect(await world.store.size()).toBe(0)
  })

  test('and says that it is of the future, or of no time, is too old (CF-01)', async () => {
    const world = createWorld()
    const requestData = { url: api, headers: {}, method: 'POST' }
    for (const at of [Number.POSITIVE_INFINITY, Number.NaN, 'x', world.state.now * 1e9]) {
      const metadata = { user: 'alice', at }
      await world.store.pushEntry({ requestData, timestamp: 0, metadata })
    }
    expect(await world.sync()).toBe(true)
    expect(world.sent).toEqual([])
  })

  test('goes on where the callbacks of the app throw', async () => {
    const thrower = () => {
      throw new Error('in the app')
    }
    const world = createWorld({ replayed: thrower })
    await keep(world, '1', '2')
    expect(await world.sync()).toBe(true)
    expect(world.sent).toEqual(['1', '2'])
    expect(reportError).toHaveBeenCalledTimes(2)
  })

  test('hears only the event of its own name', async () => {
    const world = createWorld()
    await keep(world, '1')
    await world.sync('workbox-background-sync:notes')
    expect(world.sent).toEqual([])
  })
})
