import { describe, expect, test } from 'vitest'
import {
  allows,
  directiveFor,
  metaPolicies,
  parsePolicies,
} from '../../bin/doctor/content-security-policy.mjs'

const self = 'https://app.example.com/'
const isAllowed = (policy: string, directive: string, url: string, page = self) =>
  allows(parsePolicies(policy), directive, url, page)

describe('a Content-Security-Policy, as the doctor reads it', () => {
  test.each([
    ["connect-src 'self'", 'https://app.example.com/api/', true],
    ["connect-src 'self'", 'https://app.example.com:8443/api/', false],
    ["connect-src 'self'", 'https://api.example.com/', false],
    ["connect-src 'none'", 'https://app.example.com/', false],
    ['connect-src', 'https://app.example.com/', false],
    ['connect-src *', 'https://api.example.com/', true],
    ['connect-src *', 'data:,x', false],
    ['connect-src https:', 'https://api.example.com/', true],
    ['connect-src https:', 'http://api.example.com/', false],
    ['connect-src http:', 'https://api.example.com/', true],
    ['connect-src https://api.example.com', 'https://api.example.com/v1/x?y', true],
    ['connect-src https://api.example.com', 'https://api.example.com:444/', false],
    ['connect-src https://api.example.com:*', 'https://api.example.com:444/', true],
    ['connect-src https://api.example.com', 'https://api.example.com.evil.net/', false],
    ['connect-src HTTPS://API.example.com', 'https://api.example.com/', true],
    ['connect-src api.example.com', 'https://api.example.com/', true],
    ['connect-src api.example.com', 'http://api.example.com/', false],
    ['connect-src *.example.com', 'https://a.b.example.com/', true],
    ['connect-src *.example.com', 'https://example.com/', false],
    ['connect-src https://api.example.com/v1/', 'https://api.example.com/v1/x', true],
    ['connect-src https://api.example.com/v1/', 'https://api.example.com/v2/x', false],
    ['connect-src https://api.example.com/v1', 'https://api.example.com/v1/x', false],
    ["default-src 'self'", 'https://api.example.com/', false],
    ["default-src 'none'; connect-src *", 'https://api.example.com/', true],
    ["img-src 'none'", 'https://api.example.com/', true],
    ["connect-src *; connect-src 'none'", 'https://api.example.com/', true],
    ["connect-src *, connect-src 'self'", 'https://api.example.com/', false],
    ["connect-src *, img-src 'none'", 'https://api.example.com/', true],
    ['', 'https://api.example.com/', true],
    [';; ,, ;', 'https://api.example.com/', true],
  ])('%j and %s: %s', (policy, url, expected) => {
    expect(isAllowed(policy, 'connect-src', url)).toBe(expected)
  })

  test('does not look at the query of a worker', () => {
    const policy = `worker-src ${self}sw.js`
    expect(isAllowed(policy, 'worker-src', `${self}sw.js?x=1`)).toBe(true)
    expect(isAllowed(policy, 'worker-src', `${self}sw.js/x`)).toBe(false)
  })

  test.each([
    ['worker-src', "worker-src a; child-src b; script-src c; default-src 'none'", 'worker-src'],
    ['worker-src', "child-src b; script-src c; default-src 'none'", 'child-src'],
    ['worker-src', "script-src c; default-src 'none'", 'script-src'],
    ['worker-src', "default-src 'none'", 'default-src'],
    ['frame-src', "child-src b; script-src c; default-src 'none'", 'child-src'],
    ['frame-src', "script-src c; default-src 'none'", 'default-src'],
    ['connect-src', 'child-src b', undefined],
  ])('takes for %s in “%s” %s', (directive, text, expected) => {
    const [policy] = parsePolicies(text)
    expect(directiveFor(policy!, directive)?.name).toBe(expected)
  })

  test('counts in a meta element, but for what may not stand there', () => {
    const html = `<!doctype html>
      <META content="default-src 'self'; frame-ancestors 'none'; sandbox" http-equiv=content-security-policy>
      <meta name="description" content="http-equiv=Content-Security-Policy">
      <meta http-equiv='Content-Security-Policy' content='img-src "x"'>`
    const [first, ...others] = metaPolicies(html)
    expect([...first!.keys()]).toEqual(['default-src'])
    expect(others.map((policy) => [...policy.keys()])).toEqual([['img-src']])
  })
})
