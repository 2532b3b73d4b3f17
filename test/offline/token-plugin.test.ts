import { describe, expect, test, vi } from 'vitest'
import type { ApiCall, ApiPart, ConnectedWorker } from '../../sw/offline/api-part.js'
import { tokenPlugin } from '../../sw/offline/token-plugin.js'

const event = { waitUntil: () => {} } as unknown as Parameters<ApiPart['answer']>[1]
const url = 'https://api.example/notes?page=2#top'

const createWorld = () => {
  let user: string | undefined = 'alice'
  let lastEnd: string | undefined
  const settled = vi.fn(async (response: Response) => response)
  const call = (owner: string | undefined): ApiCall => ({
    send: async () => ({ response: new Response(), isRefused: false }),
    prepare: async () => (owner === undefined ? {} : { token: { accessToken: 'secret', owner } }),
    authorized: async () => ({ headers: { authorization: 'Bearer secret' } }),
    noteAnswer: () => {},
    sendWith: async () => new Response(),
    afterFirst: settled,
    answer: (response) => response,
    isProven: false,
  })
  const door: ConnectedWorker = {
    name: 'tokenward',
    signalOf: () => undefined,
    scope: 'https://app.example/',
    begin: (request) => (request.url.startsWith('https://api.') ? call(user) : undefined),
    present: async () => ({ user, lastEnd }),
    platform: {
      wait: () => new Promise(() => {}),
      lock: (_name, _signal, work) => work(),
      now: () => 0,
    },
  }
  const expiration = { deleteCacheAndMetadata: vi.fn(async () => {}) }
  const plugins: object[] = [expiration]
  const strategy = { cacheName: 'notes', plugins, handle: vi.fn(async () => new Response()) }
  const cache = new Map<string, Response>()
  const deleted = vi.fn(async () => cache.clear())
  const keys = async () => [...cache.keys()].map((key) => new Request(key))
  vi.stubGlobal('caches', { has: async () => true, open: async () => ({ keys }), delete: deleted })
  const plugin = tokenPlugin()
  const part = plugin.partOf(strategy)
  part.connect(door)
  return {
    plugin,
    part,
    door,
    strategy,
    settled,
    cache,
    deleted,
    expiration,
    setUser: (next: string | undefined) => {
      user = next
    },
    /** The session has ended, and the same user is in again. */
    end: () => {
      lastEnd = `end-${Math.random()}`.replace('.', '')
    },
    keyFor: async (request: Request, mode = 'read', state = {}) =>
      await plugin.cacheKeyWillBeUsed({ request, event, mode, state }),
  }
}

describe('the key of an answer in the cache', () => {
  test('is the URL and the headers of the page, and whose it is (IN-16)', async () => {
    const { keyFor, setUser } = createWorld()
    const request = new Request(url, { headers: { accept: 'text/plain' } })
    const key = await keyFor(request)
    expect(key.url).toBe('https://api.example/notes?page=2&__tokenward_user=alice')
    expect([...key.headers]).toEqual([['accept', 'text/plain']])
    setUser('bob & co')
    expect((await keyFor(new Request('https://api.example/notes'))).url).toBe(
      'https://api.example/notes?__tokenward_user=bob%20%26%20co',
    )
    setUser(undefined)
    expect((await keyFor(request)).url).toMatch(/=nobody$/)
  })

  test('to write is for whom the request was sent, whoever is in by then (SE-07)', async () => {
    const { plugin, keyFor, setUser } = createWorld()
    const request = new Request(url)
    const state = {}
    await plugin.requestWillFetch({ request, event, state })
    setUser('bob')
    expect((await keyFor(request, 'write', state)).url).toMatch(/=alice$/)
    expect((await keyFor(request, 'read', state)).url).toMatch(/=bob$/)
  })
})

describe('an answer', () => {
  const sent = async (world: ReturnType<typeof createWorld>) => {
    const state = {}
    const request = await world.plugin.requestWillFetch({
      request: new Request(url),
      event,
      state,
    })
    return { state, request, event }
  }

  test('is kept if it is a whole one, and its user is still in (SE-07)', async () => {
    const world = createWorld()
    const call = await sent(world)
    const { cacheWillUpdate } = world.plugin
    const response = new Response('data')
    expect(await cacheWillUpdate({ ...call, response })).toBe(response)
    for (const status of [206, 203, 404, 500]) {
      const other = new Response('data', { status })
      expect(await cacheWillUpdate({ ...call, response: other }), `${status}`).toBeUndefined()
    }
    world.setUser('bob')
    expect(await cacheWillUpdate({ ...call, response })).toBeUndefined()
    world.setUser(undefined)
    expect(await cacheWillUpdate({ ...call, response })).toBeUndefined()
    // Out, and in again.
    world.setUser('alice')
    world.end()
    expect(await cacheWillUpdate({ ...call, response })).toBeUndefined()
  })

  test('without a token to be had is a network error for the strategy (OF-03)', async () => {
    const world = createWorld()
    const call = await sent(world)
    world.settled.mockResolvedValueOnce(Response.error())
    const response = new Response('no', { status: 401 })
    await expect(world.plugin.fetchDidSucceed({ ...call, response })).rejects.toThrow(TypeError)
  })

  test('to a request that is for no API is left alone, and so is the request', async () => {
    const world = createWorld()
    const request = new Request('https://cdn.example/')
    const state = {}
    expect(await world.plugin.requestWillFetch({ request, event, state })).toBe(request)
    const response = new Response('x', { status: 401 })
    expect(await world.plugin.fetchDidSucceed({ request, event, state, response })).toBe(response)
    expect(world.settled).not.toHaveBeenCalled()
  })
})

describe('the part of an entry of apis', () => {
  test('answers what a cache can hold, by the strategy', () => {
    const { part, strategy } = createWorld()
    const answers = (init: RequestInit) => part.answer(new Request(url, init), event) !== undefined
    expect(answers({})).toBe(true)
    expect(answers({ headers: { accept: 'text/event-stream' } })).toBe(false)
    expect(answers({ headers: { range: 'bytes=0-3' } })).toBe(false)
    for (const method of ['POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS']) {
      expect(answers({ method }), method).toBe(false)
    }
    expect(strategy.handle).toHaveBeenCalledTimes(1)
  })

  test('forgets its cache, and what other plugins know of it, once the session has ended', async () => {
    const { part, deleted, expiration, keyFor, cache, end } = createWorld()
    cache.set((await keyFor(new Request(url))).url, new Response())
    await part.forget()
    expect(deleted).not.toHaveBeenCalled()
    end()
    await Promise.all([part.forget(), part.forget()])
    expect(deleted).toHaveBeenCalledExactlyOnceWith('notes')
    expect(expiration.deleteCacheAndMetadata).toHaveBeenCalledTimes(1)
  })

  test('forgets before it reads what ended while no worker was running (SE-01)', async () => {
    const { deleted, keyFor, cache, end } = createWorld()
    end()
    cache.set(`${url.split('#')[0]}&__tokenward_user=alice.long-ago`, new Response())
    const key = await keyFor(new Request(url))
    expect(cache.size).toBe(0)
    expect(key.url).toMatch(/=alice\.end-\d+$/)
    cache.set(key.url, new Response())
    expect((await keyFor(new Request(url))).url).toBe(key.url)
    expect(deleted).toHaveBeenCalledTimes(1)
  })

  test('reads nothing from before an end where the cache cannot be deleted (SE-01)', async () => {
    const { deleted, keyFor, end } = createWorld()
    const before = await keyFor(new Request(url))
    deleted.mockRejectedValue(new Error('no'))
    end()
    expect((await keyFor(new Request(url))).url).not.toBe(before.url)
  })

  test('leaves alone what is of the present, or was put there by somebody else', async () => {
    const { part, deleted, cache, keyFor, end } = createWorld()
    end()
    cache.set('https://app.example/v1.2/offline.html', new Response())
    cache.set((await keyFor(new Request(url))).url, new Response())
    await part.forget()
    expect(deleted).not.toHaveBeenCalled()
    expect(cache.size).toBe(2)
  })
})

describe('a plugin', () => {
  test('that is in no entry of apis says so, and nothing goes out bare', async () => {
    const { requestWillFetch } = tokenPlugin()
    await expect(requestWillFetch({ request: new Request(url), event })).rejects.toThrow(
      /in no entry of `apis`/,
    )
  })

  test('is for one worker only', () => {
    const { plugin, strategy, door } = createWorld()
    const again = plugin.partOf(strategy)
    expect(() => again.connect(door)).not.toThrow()
    expect(() => again.connect({ ...door })).toThrow(/one for each/)
  })
})
