// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { openHiddenFrame } from '../../src/hidden-frame.js'

// jsdom loads no pages; where a frame is, and that it has loaded, is in the hands of the test.
// That it works in a browser is tested in a browser.

const url = 'https://app.example/tokenward/silent.html?ticket=x'
const doneUrl = 'https://app.example/tokenward/done.html'

const frames = () => [...document.querySelectorAll('iframe')]

/** Lets the frame arrive at a page; `undefined` is one of another origin. */
const load = (href: string | undefined) => {
  const [frame] = frames()
  Object.defineProperty(frame, 'contentWindow', {
    configurable: true,
    value: {
      get location() {
        if (href === undefined) throw new DOMException('Blocked', 'SecurityError')
        return { href }
      },
    },
  })
  frame?.dispatchEvent(new Event('load'))
}

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
  document.body.innerHTML = ''
})

const open = (limit = 10_000) => {
  const ended = vi.fn()
  void openHiddenFrame(url, doneUrl, limit).then(ended)
  return ended
}

describe('a hidden frame', () => {
  test('is out of sight of everybody, and unsandboxed so that the worker sees it (SI-10)', () => {
    open()
    expect(frames()).toHaveLength(1)
    const [frame] = frames()
    expect(frame?.getAttribute('src')).toBe(url)
    expect(frame?.style.display).toBe('none')
    expect(frame?.getAttribute('aria-hidden')).toBe('true')
    expect(frame?.tabIndex).toBe(-1)
    expect(frame?.title).not.toBe('')
    expect(frame?.hasAttribute('sandbox')).toBe(false)
    // A server on the user's own network: Chrome asks the page, which answers for the frame.
    expect(frame?.allow.split('; ')).toEqual([
      'local-network *',
      'loopback-network *',
      'local-network-access *',
    ])
  })

  test('ends where the worker sends it in the end, and is removed', async () => {
    const ended = open()
    load(undefined)
    load('https://app.example/tokenward/silent.html?ticket=x')
    load('about:blank')
    await vi.advanceTimersByTimeAsync(5_000)
    expect(ended).not.toHaveBeenCalled()
    load(`${doneUrl}#`)
    await vi.advanceTimersByTimeAsync(0)
    expect(ended.mock.calls).toEqual([[{ end: 'done', loaded: true, isolated: false }]])
    expect(frames()).toEqual([])
    expect(vi.getTimerCount()).toBe(0)
  })

  test('is given up in time, and removed (SI-04)', async () => {
    const ended = open(1_000)
    load(undefined)
    await vi.advanceTimersByTimeAsync(999)
    expect(ended).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(1)
    expect(ended.mock.calls).toMatchObject([[{ end: 'timeout' }]])
    expect(frames()).toEqual([])
  })

  test('that a policy of the page forbids is given up at once', async () => {
    const ended = open()
    const violation = (effectiveDirective: string, disposition = 'enforce') =>
      document.dispatchEvent(
        Object.assign(new Event('securitypolicyviolation'), { effectiveDirective, disposition }),
      )
    violation('img-src')
    violation('frame-src', 'report')
    await vi.advanceTimersByTimeAsync(0)
    expect(ended).not.toHaveBeenCalled()
    violation('frame-src')
    await vi.advanceTimersByTimeAsync(0)
    expect(ended.mock.calls).toMatchObject([[{ end: 'blocked' }]])
    expect(frames()).toEqual([])
    expect(vi.getTimerCount()).toBe(0)
  })

  test('takes no notice of messages, whoever sends them (SI-01)', async () => {
    const ended = open()
    for (const data of ['done', { type: 'authorization_response', response: { code: 'x' } }]) {
      window.dispatchEvent(new MessageEvent('message', { data, origin: 'https://app.example' }))
    }
    await vi.advanceTimersByTimeAsync(100)
    expect(ended).not.toHaveBeenCalled()
  })

  test('can be open beside another one', async () => {
    const [first, second] = [open(1_000), open(2_000)]
    expect(frames()).toHaveLength(2)
    await vi.advanceTimersByTimeAsync(1_000)
    expect(first).toHaveBeenCalled()
    expect(second).not.toHaveBeenCalled()
    expect(frames()).toHaveLength(1)
  })
})
