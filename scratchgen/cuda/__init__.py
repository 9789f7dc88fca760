"""What runs on an NVIDIA GPU only.  Nothing else imports CuPy; `backend` does, when it is asked for."""
