// One socket for the whole page, shared by every mounted instance; each instance watches one channel.
const shared = (globalThis.__pythonicAssistant ??= makeShared())

function makeShared() {
  const state = { numbers: new Map(), watchers: new Set(), socket: null, up: false, downSince: 0, wait: 500, region: null, asking: [], lastAsk: 0 }

  state.connect = () => {
    if (state.socket && state.socket.readyState <= WebSocket.OPEN) return
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/pa/live")
    state.socket = socket
    socket.onopen = () => {
      state.wait = 500
    }
    socket.onmessage = message => {
      if (!state.up) {
        state.up = true
        state.downSince = 0
      }
      const { numbers, say } = JSON.parse(message.data)
      for (const [channel, number] of Object.entries(numbers)) state.numbers.set(channel, number)
      for (const sentence of say) state.announce(sentence)
      state.tell()
    }
    socket.onclose = event => {
      if (state.socket !== socket) return
      if (state.up || !state.downSince) state.downSince = Date.now()
      state.up = false
      state.tell()
      if (event.code === 4401) {
        // Signed out, here or in another tab. Once only, so that a page that is not signed in stays still.
        if (state.watchers.size) location.reload()
        return
      }
      setTimeout(state.connect, state.wait * (0.8 + 0.4 * Math.random()))
      state.wait = Math.min(state.wait * 2, 10000)
    }
  }
  // Streamlit sends what several components ask at the same moment as one message of one fragment, and the
  // other fragments are not redrawn. So they ask one after the other; cards, which ask with rank 0, first.
  state.ask = (instance, value) => {
    state.asking = state.asking.filter(entry => entry.instance !== instance)
    state.asking.push({ instance, value, rank: instance.data.rank ?? 1 })
    state.asking.sort((a, b) => a.rank - b.rank)
    if (state.asking.length === 1) queueMicrotask(state.askNext)
  }
  state.askNext = () => {
    clearTimeout(state.askTimer)
    const rest = state.lastAsk + 40 - performance.now()
    if (rest > 0) {
      state.askTimer = setTimeout(state.askNext, rest)
      return
    }
    const entry = state.asking.shift()
    if (!entry) return
    state.lastAsk = performance.now()
    if (entry.instance.watching) entry.instance.component.setTriggerValue("changed", entry.value)
    if (state.asking.length) state.askTimer = setTimeout(state.askNext, 40)
  }
  state.tell = () => {
    for (const watcher of state.watchers) watcher()
  }
  state.announce = sentence => {
    if (!state.region) return
    const line = document.createElement("p")
    line.textContent = sentence
    state.region.append(line)
    while (state.region.childElementCount > 5) state.region.firstElementChild.remove()
  }
  addEventListener("online", () => state.connect())
  // Browsers may send what is typed into a field of several lines to a service that checks the spelling.
  addEventListener("focusin", event => {
    if (event.target.closest?.(".st-key-secret_lines")) event.target.spellcheck = false
  })
  // Streamlit sends a message without the files that it could not take, and says so nowhere. Such a message is
  // held back instead, before Streamlit sees the key or the click.
  const heldBack = event => {
    const input = event.target.closest?.('[data-testid="stChatInput"]')
    const failed = [...(input?.querySelectorAll('[data-testid="stFileChip"][aria-invalid="true"]') ?? [])]
    if (!failed.length || !state.unsent) return
    event.preventDefault()
    event.stopImmediatePropagation()
    const names = failed.map(chip => chip.querySelector('[data-testid="stFileChipName"]')?.title ?? "a file")
    const why = document.getElementById(failed[0].getAttribute("aria-describedby"))?.textContent ?? ""
    state.unsent({ names, why: why.replace(/^Error:\s*/, "") })
  }
  addEventListener(
    "keydown",
    event => {
      const writing = event.target.matches?.('[data-testid="stChatInputTextArea"]')
      if (writing && event.key === "Enter" && !event.shiftKey && !event.isComposing) heldBack(event)
    },
    true,
  )
  addEventListener(
    "click",
    event => {
      if (event.target.closest?.('[data-testid="stChatInputSubmitButton"]')) heldBack(event)
    },
    true,
  )
  return state
}

const instances = new WeakMap()

export default function (component) {
  const { data, parentElement } = component
  let instance = instances.get(parentElement)
  if (!instance) {
    instance = { asked: 0, askedAt: 0, timer: null }
    instances.set(parentElement, instance)
  }
  instance.data = data ?? {}
  instance.component = component
  const role = roles[instance.data.role]
  return role ? role(instance, parentElement) : undefined
}

const roles = { watch, announcer, post }

// Asks for a redraw whenever the channel's number is beyond the one that was drawn; one request at a time.
function watch(instance, parent) {
  const element = part(parent, "span")
  const check = () => {
    const { channels, seen, since, now } = instance.data
    const newest = Math.max(0, ...channels.map(channel => shared.numbers.get(channel) ?? 0))
    const waiting = instance.asked > seen && Date.now() - instance.askedAt < 2000
    if (newest > seen && !waiting) {
      instance.asked = newest
      instance.askedAt = Date.now()
      shared.ask(instance, newest)
      clearTimeout(instance.retry)
      instance.retry = setTimeout(check, 2100)
    }
    // Without the socket the page still asks now and then.
    if (!shared.up && Date.now() - instance.askedAt > 15000 && shared.downSince) {
      instance.askedAt = Date.now()
      shared.ask(instance, -Date.now())
    }
    draw()
  }
  const draw = () => {
    const { since, now, text, state } = instance.data
    let words = text ?? ""
    if (since != null) {
      words = spoken(Math.max(0, (Date.now() - instance.offset) / 1000 - since))
    }
    if (state && !shared.up && shared.downSince && Date.now() - shared.downSince > 1500) {
      words = "Connection lost, reconnecting…"
      element.className = "lost"
    } else {
      element.className = state ?? ""
    }
    if (element.textContent !== words) element.textContent = words
  }
  if (instance.data.now != null && instance.drawnNow !== instance.data.now) {
    instance.drawnNow = instance.data.now
    instance.offset = Date.now() - instance.data.now * 1000
  }
  if (instance.data.focus && !instance.focused) {
    instance.focused = true
    setTimeout(() => (parent.host ?? parent).scrollIntoView?.({ block: "center" }), 400)
  }
  if (!instance.watching) {
    instance.watching = () => instance.check()
    shared.watchers.add(instance.watching)
    instance.timer = setInterval(instance.watching, 1000)
    shared.connect()
  }
  instance.check = check
  check()
  return () => {
    shared.watchers.delete(instance.watching)
    clearInterval(instance.timer)
    clearTimeout(instance.retry)
    instance.watching = null
  }
}

// The instance's own element, made when it is first asked for.
function part(parent, name) {
  const root = parent.querySelector("#pythonic-live")
  return root.querySelector(name) ?? root.appendChild(document.createElement(name))
}

function spoken(seconds) {
  const whole = Math.floor(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}

// The one polite region that reads changes of state out.
function announcer(instance, parent) {
  const region = part(parent, "div")
  region.setAttribute("role", "status")
  region.setAttribute("aria-live", "polite")
  shared.region = region
  shared.unsent = told => instance.component.setTriggerValue("unsent", told)
  const { gone } = instance.data
  if (instance.gone !== undefined && gone > instance.gone) closeNarrowSidebar()
  instance.gone = gone
  shared.connect()
  return () => {
    shared.region = null
    shared.unsent = null
  }
}

// Below Streamlit's own limit the sidebar covers the page: whoever chose a thread wants to see it.
function closeNarrowSidebar() {
  if (innerWidth > 768) return
  const sidebar = document.querySelector('[data-testid="stSidebar"][data-collapsed="false"]')
  sidebar?.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click()
}

// Posts once and reloads: the answer sets or drops the session's cookie, which no script can read.
function post(instance, parent) {
  if (instance.posted === instance.data.once) return undefined
  instance.posted = instance.data.once
  const words = part(parent, "span")
  fetch(instance.data.address, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(instance.data.body ?? {}),
  })
    .then(async answer => {
      if (answer.ok) location.reload()
      else words.textContent = (await answer.json()).error ?? "This did not work: try again."
    })
    .catch(() => {
      words.textContent = "The page does not answer: try again."
    })
  return undefined
}
