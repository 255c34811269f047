"""Agents as state machines over (messages, decision, observation). Pure: no clock, no socket, no process."""
