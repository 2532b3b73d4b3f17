import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'

// The page half on a server: this file runs in Node without a DOM.

const rejections: unknown[] = []
const onRejection = (reason: unknown) => void rejections.push(reason)
beforeAll(() => {
  process.on('unhandledRejection', onRejection)
})
afterAll(() => {
  process.off('unhandledRejection', onRejection)
})

const settle = () => new Promise((resolve) => setTimeout(resolve, 20))

describe('on a server', () => {
  test('importing and creating have no effect (SSR)', async () => {
    expect(typeof document).toBe('undefined')
    const before = new Set(Object.getOwnPropertyNames(globalThis))
    const timers = vi.spyOn(globalThis, 'setTimeout')
    const network = vi.spyOn(globalThis, 'fetch')
    const { createTokenManager } = await import('../../src/index.js')
    const auth = createTokenManager('/sw.js', { scope: '/' })
    const adopting = createTokenManager()
    expect(timers).not.toHaveBeenCalled()
    expect(network).not.toHaveBeenCalled()
    timers.mockRestore()
    network.mockRestore()
    expect(Object.getOwnPropertyNames(globalThis).filter((name) => !before.has(name))).toEqual([])
    for (const each of [auth, adopting]) each.close()
  })

  test('ready stays pending: there is no page to control (BR-10)', async () => {
    const { createTokenManager } = await import('../../src/index.js')
    const settled = vi.fn()
    createTokenManager('/sw.js').ready.then(settled, settled)
    await settle()
    expect(settled).not.toHaveBeenCalled()
  })

  test('nobody is signed in', async () => {
    const { createTokenManager } = await import('../../src/index.js')
    expect(await createTokenManager('/sw.js').session()).toBeUndefined()
    expect(await createTokenManager().session()).toBeUndefined()
  })

  test('listeners come and go, and hear nothing', async () => {
    const { createTokenManager } = await import('../../src/index.js')
    const auth = createTokenManager('/sw.js')
    const listener = vi.fn()
    const remove = auth.onChange(listener)
    await settle()
    remove()
    auth.close()
    expect(listener).not.toHaveBeenCalled()
  })

  test('the worker’s module can be imported too, and creates nothing by itself', async () => {
    const { createTokenWorker } = await import('../../sw/index.js')
    expect(createTokenWorker).toBeInstanceOf(Function)
  })

  test('nothing is rejected unhandled (ER-03)', async () => {
    await settle()
    expect(rejections).toEqual([])
  })
})
